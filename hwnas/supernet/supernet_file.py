"""The file that turns a base checkpoint into a supernet: order, scales and provenance.

It may hold the base weights too (`base.*`, 8 bits per channel); the shipped one does not, because
the base checkpoint lies beside it, and names that checkpoint by the hash of its tensors.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hwnas.errors import CheckpointError
from hwnas.supernet.checkpoint import read_metadata, read_tensors, save_weights
from hwnas.supernet.encoder_order import EncoderOrder
from hwnas.supernet.packing import pack
from hwnas.supernet.scale_table import ScaleTable
from hwnas.workload.sam_geometry import GEOMETRIES, SamGeometry

__all__ = [
    "SupernetFile",
    "hash_weights",
    "is_supernet_file",
    "read_supernet_file",
    "write_supernet_file",
]

_FORMAT = "hwnas-supernet-1"
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


def write_supernet_file(
    path: str | Path,
    *,
    geometry: SamGeometry,
    order: EncoderOrder,
    scales: ScaleTable,
    base_weights: dict[str, torch.Tensor],
    with_base: bool,
    notes: dict[str, Any],
) -> Path:
    """Write a supernet file, whole or not at all.

    `base_weights` are those of the unsorted base checkpoint, as loaded; `notes` is JSON that says
    how ranges and order were made.
    """
    tensors = {f"{_ORDER}{name}": value for name, value in _order_tensors(order).items()}
    tensors |= {f"{_SCALES}{name}": value for name, value in scales.tensors().items()}
    if with_base:
        tensors |= {f"{_BASE}{name}": value for name, value in pack(base_weights).items()}
    metadata = {
        "format": _FORMAT,
        "geometry": geometry.name,
        "base_hash": hash_weights(base_weights),
        "notes": json.dumps(notes, sort_keys=True),
    }
    return save_weights(path, tensors, metadata=metadata)


def read_supernet_file(path: str | Path) -> SupernetFile:
    """Read a supernet file; raises CheckpointError for anything else."""
    metadata = read_metadata(path)
    tensors = read_tensors(path)
    name = metadata.get("geometry", "")
    if metadata.get("format") != _FORMAT or name not in GEOMETRIES:
        raise CheckpointError(
            f"{path}: format {metadata.get('format')!r}, geometry {name!r}; expected a supernet "
            f"file ({_FORMAT}); write one with hwnas.workflows.prepare_supernet"
        )
    base = _under(tensors, _BASE)
    order = _order_of(path, _under(tensors, _ORDER))
    order.check(GEOMETRIES[name])
    return SupernetFile(
        GEOMETRIES[name],
        order,
        ScaleTable(_under(tensors, _SCALES)),
        metadata.get("base_hash", ""),
        base or None,
        json.loads(metadata.get("notes", "{}")),
    )


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
