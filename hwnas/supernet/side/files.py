"""A side network in a folder: its tensors as safetensors, all else as JSON.

`side.json` names the file of the tensors, which bears a part of their hash; it is replaced last,
so that a kill at any instant leaves the network of before or the new one, whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from hwnas.errors import CheckpointError, HwnasError
from hwnas.records.files import explained, replace_text
from hwnas.supernet.checkpoint import load_weights, read_tensors, save_weights
from hwnas.supernet.side.config import SideConfig
from hwnas.supernet.side.network import SideNetwork
from hwnas.supernet.supernet_file import hash_weights
from hwnas.workload.sam_geometry import SamGeometry

__all__ = ["load_side", "read_notes", "save_side"]

_FORMAT, _FACTS = "hwnas-side-1", "side.json"
_ADVICE = "copy the folder again, or train again"


def save_side(
    side: SideNetwork, folder: str | Path, *, base: str | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Write a side network alone, whole or not at all, in place of one that is there.

    `base` is the `key` of the backbone that it was trained beside, `notes` any JSON. Returns the
    folder.

    Raises:
        RunError: it cannot be written.
    """
    folder = Path(folder)
    tensors = {name: value.detach().cpu() for name, value in side.state_dict().items()}
    digest = hash_weights(tensors)
    name = f"side-{digest[:16]}.safetensors"
    facts = {
        "format": _FORMAT, "tensors": name, "hash": digest, "base": base,
        "config": side.config.to_dict(), "geometry": asdict(side.geometry),
        "notes": dict(notes or {}),
    }  # fmt: skip
    with explained("write", folder):
        save_weights(folder / name, tensors, metadata={"format": _FORMAT})
    replace_text(folder / _FACTS, json.dumps(facts, indent=1, sort_keys=True) + "\n")
    with explained("tidy", folder):
        for old in folder.glob("side-*.safetensors*"):
            if old.name != name:
                old.unlink()
    return folder


def load_side(folder: str | Path, *, base: str | None = None) -> SideNetwork:
    """Read what `save_side` wrote.

    With `base`, the `key` of the backbone that it shall run beside, it must be the one that it was
    trained beside.

    Raises:
        CheckpointError: the folder holds none, it is damaged, or it belongs to another base.
    """
    path, facts = Path(folder) / _FACTS, _facts(Path(folder))
    try:
        config, geometry = SideConfig.of(facts["config"]), _geometry(facts["geometry"])
        side = SideNetwork(geometry, config, rng=torch.Generator())
        name, digest, own = facts["tensors"], facts["hash"], facts["base"]
    except (KeyError, TypeError, ValueError, AttributeError, HwnasError) as error:
        raise CheckpointError(
            f"{path}: describes no side network ({error}); expected what save_side wrote: {_ADVICE}"
        ) from error
    if Path(str(name)).name != name:
        raise CheckpointError(f"{path}: tensors {name!r} is no file of this folder; {_ADVICE}")
    tensors = read_tensors(path.with_name(name))
    if hash_weights(tensors) != digest:
        raise CheckpointError(
            f"{path.with_name(name)}: its tensors are not those that were written (their hash "
            f"differs); {_ADVICE}"
        )
    if base is not None and own != base:
        raise CheckpointError(
            f"{folder}: was trained beside another encoder, or another subnet of it (key "
            f"{str(own)[:12]}, here {base[:12]}); load the base that its notes name"
        )
    load_weights(side, tensors, source=str(folder))
    return side


def read_notes(folder: str | Path) -> dict[str, Any]:
    """The notes that were saved with a side network; raises CheckpointError as `load_side`."""
    return dict(_facts(Path(folder)).get("notes") or {})


def _facts(folder: Path) -> dict[str, Any]:
    path = folder / _FACTS
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder}: no {_FACTS}; expected a folder that save_side wrote"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); {_ADVICE}") from error
    if not isinstance(facts, dict) or facts.get("format") != _FORMAT:
        found = facts.get("format") if isinstance(facts, dict) else type(facts).__name__
        raise CheckpointError(f"{path}: format {found!r}, expected {_FORMAT!r}; {_ADVICE}")
    return facts


def _geometry(values: Mapping[str, Any]) -> SamGeometry:
    lists: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return SamGeometry(**lists)
