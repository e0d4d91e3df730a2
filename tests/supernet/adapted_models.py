"""Small supernets with adapters for the tests of this folder."""

from __future__ import annotations

from typing import Any

import torch

from hwnas.adapters import AdapterBank, block_linears, build_adapters
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.scale_table import ScaleTable
from hwnas.workload.sam_geometry import SamGeometry
from tests.supernet.elastic_models import TINY, calibrated, random_sam

BITS = (2, 3, 4, 6, 8)


def adapters(layout: str, geometry: SamGeometry = TINY, **options: Any) -> AdapterBank:
    """Fresh pairs of rank 4 for every bit-width."""
    rng = torch.Generator().manual_seed(0)
    return build_adapters(
        block_linears(geometry), rng=rng, layout=layout, bits=BITS, **{"rank": 4, **options}
    )


def adapted(
    layout: str, *, trained: bool = True, table: dict[str, Any] | None = None, **options: Any
) -> SamSupernet:
    """A calibrated supernet with adapters; `trained` ones change their weights by some percent."""
    bank = adapters(layout, **options)
    if trained:
        move(bank)
    scales = ScaleTable(calibrated().encoder.scales.tensors(), **(table or {}))
    return SamSupernet(random_sam(), scales=scales, adapters=bank)


def move(bank: AdapterBank) -> None:
    """Give every parameter a random value, as training would."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in bank.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng) * 0.05)
