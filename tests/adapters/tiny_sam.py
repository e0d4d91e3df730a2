"""A stock SAM of 48 channels and three blocks, on which every kind of adapter is tried."""

from __future__ import annotations

import copy
import functools
import itertools
from typing import Any

import torch
from torch import nn

from hwnas.adapters import SAM_LINEARS, Attached, LayerQuantizer
from hwnas.adapters.attaching import matching_linears
from hwnas.supernet.sam_model import build_sam, encode
from hwnas.workload.sam_geometry import SamGeometry

GEOMETRY = SamGeometry(
    "tiny", dim=48, depth=3, heads=3, global_blocks=(2,), window=4, resolutions=(128,),
    heads_options=(3,),
)  # fmt: skip


@functools.cache
def _built() -> Any:
    torch.manual_seed(0)
    return build_sam(GEOMETRY)


def tiny_sam() -> Any:
    """The same random model each time."""
    return copy.deepcopy(_built())


def some_images(count: int = 1, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, 128, 128, generator=torch.Generator().manual_seed(seed))


def shake(attached: Attached, seed: int = 2, size: float = 0.1) -> None:
    """Move every trainable parameter, as training would."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for group in attached.trainable_groups().values():
            for _, p in group:
                p.add_(size * torch.randn(p.shape, generator=rng))


def step(attached: Attached, images: torch.Tensor, steps: int, rate: float = 1e-2) -> None:
    """Train the active adapters a little, on a loss of the embedding."""
    found = itertools.chain(*attached.trainable_groups().values())
    optimizer = torch.optim.AdamW([p for _, p in found], rate)
    for _ in range(steps):
        optimizer.zero_grad()
        encode(attached.model, images).square().mean().backward()
        optimizer.step()


def quantize(attached: Attached, bits: int) -> dict[str, LayerQuantizer]:
    """Give each adapted layer fixed grids of its frozen weight and of its inputs in the base."""
    grids = {path: copy.deepcopy(_grids(bits)[path]) for path in attached.layers}
    for path, layer in attached.layers.items():
        layer.quantizer = grids[path]
    return grids


@functools.cache
@torch.no_grad()
def _grids(bits: int) -> dict[str, LayerQuantizer]:
    sam, grids = tiny_sam(), {}

    def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        weight, path = module.get_parameter("weight"), names[module]
        grids[path] = LayerQuantizer.of(weight, args[0], bits, 8)

    names = {layer: path for path, layer in matching_linears(sam, SAM_LINEARS).items()}
    for layer in names:
        layer.register_forward_pre_hook(hook)
    encode(sam, some_images())
    return grids
