"""A slot as a module of its own: blocks one after the other on maps (B, g, g, C)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from hwnas.blocks.layers import BlockAttention, BlockConv, BlockLinear
from hwnas.blocks.options import BlockOption, heads_of
from hwnas.quant.bits import FLOAT_BITS
from hwnas.supernet.windows import merge_windows, split_windows
from hwnas.workload.sam_geometry import SamGeometry

__all__ = ["ConvMixer", "SlotBlock", "SlotModule", "WindowMixer", "make_slot"]

_EPS = 1e-6


class WindowMixer(nn.Module):
    """Attention within windows of `window` tokens a side, 0 for the whole map."""

    def __init__(self, window: int, grid: int, size: tuple[int, int, int], bits: tuple[int, int]):
        super().__init__()
        dim, heads, head_dim = size
        inner = heads * head_dim
        self.window = window
        self.qkv = BlockLinear(dim, 3 * inner, *bits)
        self.attention = BlockAttention(
            window or grid, heads, head_dim, quantized=bits[0] != FLOAT_BITS
        )
        self.proj = BlockLinear(inner, dim, *bits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mix a map (B, g, g, C)."""
        regions = self.proj(self.attention(self.qkv(split_windows(x, self.window))))
        return merge_windows(regions, self.window, x.shape[1])


class ConvMixer(nn.Module):
    """A depthwise convolution and a pointwise one, in the place of attention.

    Source of the idea: MetaFormer (Yu et al., CVPR 2022), a block keeps most of its quality with
    another mixer of tokens.
    """

    def __init__(self, dim: int, bits: tuple[int, int]) -> None:
        super().__init__()
        self.conv = BlockConv(dim, *bits)
        self.point = BlockLinear(dim, dim, *bits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mix a map (B, g, g, C)."""
        mixed: torch.Tensor = self.point(self.conv(x))
        return mixed


class SlotBlock(nn.Module):
    """x + mixer(norm1(x)), then x + lin2(gelu(lin1(norm2(x))))."""

    def __init__(self, mixer: nn.Module, dim: int, hidden: int, bits: tuple[int, int]) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(dim), _norm(dim)
        self.mixer = mixer
        self.lin1 = BlockLinear(dim, hidden, *bits)
        self.lin2 = BlockLinear(hidden, dim, *bits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the block."""
        x = x + self.mixer(self.norm1(x))
        added: torch.Tensor = self.lin2(functional.gelu(self.lin1(self.norm2(x))))
        return x + added


class SlotModule(nn.Module):
    """The blocks of one option; `places` are the teacher's blocks that they stand for."""

    def __init__(self, option: BlockOption, blocks: Sequence[SlotBlock], places: Sequence[int]):
        super().__init__()
        self.option, self.places = option, tuple(places)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map the features before the slot to those after it."""
        for block in self.blocks:
            x = block(x)
        return x

    @torch.no_grad()
    def set_ranges(self, floating: SlotModule, x: torch.Tensor) -> None:
        """Take the weights of the same shape in floating point, and fit quantizers on inputs x."""
        own = dict(self.named_parameters())
        for name, value in floating.named_parameters():
            own[name].copy_(value)
        layers: dict[str, Any] = {
            n: m for n, m in self.named_modules() if hasattr(m, "set_ranges") and n
        }
        hooks = [
            floating.get_submodule(name).register_forward_pre_hook(
                lambda _, args, layer=layer: layer.set_ranges(args[0])
            )
            for name, layer in layers.items()
        ]
        try:
            floating(x)
        finally:
            for hook in hooks:
                hook.remove()


def make_slot(
    geometry: SamGeometry, option: BlockOption, places: Sequence[int], grid: int
) -> SlotModule:
    """The module of an option with every weight zero.

    `places` are the teacher's blocks that it starts from (`kept_blocks`), `grid` the side of the
    map in tokens.
    """
    quantized = option != option.in_float
    bits = (option.w_bits, option.a_bits) if quantized else (FLOAT_BITS, FLOAT_BITS)
    hidden = option.ratio * geometry.dim

    def block(place: int) -> SlotBlock:
        mixer: Any
        if option.kind == "conv":
            mixer = ConvMixer(geometry.dim, bits)
        else:
            window = geometry.window if option.kind == "window" else geometry.window_of(place)
            size = geometry.dim, heads_of(geometry, option), geometry.head_dim
            mixer = WindowMixer(window, grid, size, bits)
        return SlotBlock(mixer, geometry.dim, hidden, bits)

    return SlotModule(option, [block(place) for place in places], places)


def _norm(dim: int) -> nn.LayerNorm:
    return nn.LayerNorm(dim, eps=_EPS)
