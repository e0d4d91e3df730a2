"""Libraries of invented losses, and a small teacher with pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hwnas.blocks.library import BlockRecord, Library, NetworkRecord, replaced_key

IMAGES = 4


def record(slot: int, block: str, nsr: float, **changes: Any) -> BlockRecord:
    """A block whose images lie around its loss."""
    spread = np.linspace(-0.1, 0.1, IMAGES) * nsr * (1 + slot)
    of_images = tuple(float(nsr + s) for s in spread)
    values: dict[str, Any] = {
        "fisher_of_images": tuple(3.0 * x for x in of_images), "params": 10, "macs": 100,
        "steps": 1, "seconds": 1.0,
    }  # fmt: skip
    return BlockRecord(slot, block, nsr, of_images, **{**values, **changes})


def library(
    losses: dict[tuple[int, str], float], *, slots: int, networks: dict[tuple[str, ...], float],
    replaced: dict[tuple[int, str], float] | None = None, **settings: Any,
) -> Library:  # fmt: skip
    """A library that was never on a disk."""
    lines: dict[str, Any] = {}
    for (slot, block), nsr in losses.items():
        made = record(slot, block, nsr)
        lines[made.key] = made.to_dict()
    for blocks, nsr in networks.items():
        network = NetworkRecord("t", blocks, nsr, (nsr,), None, 0.1)
        lines[network.key] = network.to_dict()
    for (slot, block), nsr in (replaced or {}).items():
        lines[replaced_key(slot, block)] = {"slot": slot, "block": block, "nsr": nsr}
    facts = {"slots": slots, "geometry": "sam-vit-t", "resolution": 256, **settings}
    return Library(Path("made"), facts, lines)
