"""Small supernets with random weights for the tests of this folder."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch.nn import functional

from hwnas.supernet.range_calibration import calibrate_ranges
from hwnas.supernet.sam_model import build_sam
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.scale_table import ScaleTable
from hwnas.workload.sam_geometry import SamGeometry
from hwnas.workload.sam_plan import BlockPlan, EncoderPlan

TINY = SamGeometry(
    "tiny", 48, 4, 3, (1, 3), 3, (64, 128), heads_options=(1, 2, 3), mlp_ratio=4, neck_dim=32,
    stages=2,
)  # fmt: skip


def random_sam(geometry: SamGeometry = TINY, seed: int = 0) -> Any:
    """A stock SAM whose every parameter is random, tables that start at zero included."""
    torch.manual_seed(seed)
    sam = build_sam(geometry)
    for parameter in sam.image_encoder.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return sam


def smooth_images(geometry: SamGeometry = TINY, seed: int = 0) -> list[torch.Tensor]:
    """One normalized input (3, R, R) for each resolution."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 3, 16, 16, generator=rng)
    return [
        functional.interpolate(coarse, size=(r, r), mode="bicubic")[0] for r in geometry.resolutions
    ]


def calibrated(geometry: SamGeometry = TINY) -> SamSupernet:
    """A supernet of random weights with scales for every bit-width."""
    return SamSupernet(random_sam(geometry), scales=ScaleTable(_scales(geometry)))


@cache
def _scales(geometry: SamGeometry) -> dict[str, torch.Tensor]:
    encoder = SamSupernet(random_sam(geometry)).encoder
    rng = torch.Generator().manual_seed(0)
    images = smooth_images(geometry)[:2]  # the small ones, for the time's sake
    return calibrate_ranges(encoder, images, rng=rng).tensors()


def mixed_plan(geometry: SamGeometry = TINY, resolution: int = 128, **changes: Any) -> EncoderPlan:
    """A plan that drops a block and mixes widths and bits."""
    blocks = (
        BlockPlan(1, 2, 96, (4, 8, 3, 4), (8, 4, 8, 6), 8),
        BlockPlan(2, 1, 144, (2, 4, 8, 32), (8, 8, 32, 4), 4),
        BlockPlan(3, 3, 192, (32, 8, 4, 8), (32, 8, 8, 8), 32),
    )
    return EncoderPlan(geometry, resolution, blocks, **changes)


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    """|a - b| / |b| in the Euclidean norm."""
    return float((a - b).norm() / b.norm())
