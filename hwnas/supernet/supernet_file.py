"""The file that turns a base checkpoint into a supernet: order, scales and what was trained.

It may hold the base weights too (`base.*`, 8 bits per channel); the shipped one does not, because
the base checkpoint lies beside it, and names that checkpoint by the hash of its tensors.

A trained supernet adds `adapters.*` and `tuned.*` (`trained_tensors.py`). Such a file is of
format 2: it says what the adapters are and keeps the hash of its own tensors. One without them
stays readable by the first version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hwnas.errors import CheckpointError
from hwnas.supernet.checkpoint import read_metadata, read_stored, read_tensors, save_weights
from hwnas.supernet.encoder_order import EncoderOrder
from hwnas.supernet.packing import pack, round_mantissa, unpack
from hwnas.supernet.scale_table import ScaleTable
from hwnas.supernet.trained_tensors import TrainedTensors, pack_adapters
from hwnas.workload.sam_geometry import GEOMETRIES, SamGeometry

__all__ = [
    "SupernetFile",
    "hash_weights",
    "is_supernet_file",
    "pack_supernet_file",
    "read_supernet_file",
    "write_supernet_file",
]

_UNTRAINED, _TRAINED = "hwnas-supernet-1", "hwnas-supernet-2"
_ORDER, _SCALES, _BASE = "order.", "scales.", "base."


@dataclass(frozen=True)
class SupernetFile:
    """What a supernet file holds; `base_weights` is None where they lie in a file of their own."""

    geometry: SamGeometry
    order: EncoderOrder
    scales: ScaleTable
    base_hash: str
    base_weights: dict[str, torch.Tensor] | None
    notes: dict[str, Any]
    trained: TrainedTensors = field(default_factory=TrainedTensors)


def write_supernet_file(
    path: str | Path,
    *,
    geometry: SamGeometry,
    order: EncoderOrder,
    scales: ScaleTable,
    base_weights: dict[str, torch.Tensor],
    with_base: bool,
    notes: dict[str, Any],
    trained: TrainedTensors | None = None,
) -> Path:  # fmt: skip
    """Write a supernet file, whole or not at all.

    `base_weights` are those of the unsorted base checkpoint, as loaded; `notes` is JSON that says
    how ranges and order were made.
    """
    tensors = {f"{_ORDER}{name}": value for name, value in _order_tensors(order).items()}
    tensors |= {f"{_SCALES}{name}": value for name, value in scales.tensors().items()}
    metadata = {
        "format": _UNTRAINED,
        "geometry": geometry.name,
        "base_hash": hash_weights(base_weights),
        "notes": json.dumps(notes, sort_keys=True),
    }
    options = {**scales.options, "relative": False}
    if trained is not None or options != ScaleTable({}).options:
        trained = trained or TrainedTensors()
        tensors |= trained.packed()
        metadata |= {
            "format": _TRAINED,
            "scales": json.dumps(options),
            "adapters": json.dumps(trained.config()),
            "hash": hash_weights(unpack(tensors)),
        }
        if trained.classes:
            metadata["classes"] = json.dumps(trained.classes)
    if with_base:
        tensors |= {f"{_BASE}{name}": value for name, value in pack(base_weights).items()}
    return save_weights(path, tensors, metadata=metadata)


def read_supernet_file(path: str | Path) -> SupernetFile:
    """Read a supernet file; raises CheckpointError for anything else."""
    metadata = read_metadata(path)
    tensors = read_tensors(path)
    name = metadata.get("geometry", "")
    if metadata.get("format") not in (_UNTRAINED, _TRAINED) or name not in GEOMETRIES:
        raise CheckpointError(
            f"{path}: format {metadata.get('format')!r}, geometry {name!r}; expected a supernet "
            f"file ({_UNTRAINED} or {_TRAINED}); write one with hwnas.workflows.prepare_supernet"
        )
    base = _under(tensors, _BASE)
    order = _order_of(path, _under(tensors, _ORDER))
    order.check(GEOMETRIES[name])
    options: dict[str, Any] = {}
    trained = TrainedTensors()
    if metadata["format"] == _TRAINED:
        _check_hash(path, metadata, tensors)
        options = json.loads(metadata.get("scales", "{}"))
        config = json.loads(metadata.get("adapters", "null"))
        classes = json.loads(metadata.get("classes", "[]"))
        trained = TrainedTensors.read(tensors, config, classes, source=str(path))
    return SupernetFile(
        GEOMETRIES[name],
        order,
        ScaleTable(_under(tensors, _SCALES), **options),
        metadata.get("base_hash", ""),
        base or None,
        json.loads(metadata.get("notes", "{}")),
        trained,
    )


def pack_supernet_file(source: str | Path, out: str | Path) -> Path:
    """Write a supernet file anew, small: without base weights, adapters at 8 bits.

    Scales keep 10 bits of mantissa (`round_mantissa`), adapters 8 bits (`pack_adapters`), all
    else is copied. The base is the one that it was, named by its hash. Raises CheckpointError for
    a source that `read_supernet_file` refuses.
    """
    read_supernet_file(source)
    metadata = read_metadata(source)
    tensors = {n: t for n, t in read_stored(source).items() if not n.startswith(_BASE)}
    tensors |= {n: round_mantissa(t) for n, t in tensors.items() if n.startswith(_SCALES)}
    tensors = pack_adapters(tensors)
    if metadata["format"] == _TRAINED:
        metadata["hash"] = hash_weights(unpack(tensors))
    metadata["packing"] = "adapters int8 per rank, scales 10 bits of mantissa"
    return save_weights(out, tensors, metadata=metadata)


def is_supernet_file(path: str | Path) -> bool:
    """Whether a file says that it is a supernet file, of any version."""
    return read_metadata(path).get("format", "").startswith("hwnas-supernet")


def hash_weights(weights: dict[str, torch.Tensor]) -> str:
    """Sha256 (hex) of names, shapes and float32 values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def _check_hash(
    path: str | Path, metadata: Mapping[str, str], tensors: dict[str, torch.Tensor]
) -> None:
    own = {name: value for name, value in tensors.items() if not name.startswith(_BASE)}
    if hash_weights(own) != metadata.get("hash"):
        raise CheckpointError(
            f"{path}: its tensors are not those that were written (their hash differs); the file "
            "is damaged or was edited; copy it again, or train again"
        )


def _order_tensors(order: EncoderOrder) -> dict[str, torch.Tensor]:
    small = {n: getattr(order, n).to(torch.int16) for n in ("heads", "units", "channels")}
    return {**small, "blocks": order.blocks}


def _order_of(path: str | Path, tensors: dict[str, torch.Tensor]) -> EncoderOrder:
    missing = {"heads", "units", "channels", "blocks"} - set(tensors)
    if missing:
        raise CheckpointError(f"{path}: no order of {', '.join(sorted(missing))}; prepare it again")
    return EncoderOrder(
        tensors["heads"].long(), tensors["units"].long(), tensors["channels"].long(),
        tensors["blocks"],
    )  # fmt: skip


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
