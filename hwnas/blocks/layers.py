"""Layers of trainable blocks that own their weights, in floating point or fake-quantized.

The arithmetic is that of the supernet (`hwnas.quant`): LSQ for weights, one scale a row; LSQ+ for
inputs, one scale and offset a layer; attention products and position tables at 8 bits wherever
the block is quantized. All maps are channels-last.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from hwnas.blocks.layer_counts import CONV_KERNEL
from hwnas.quant.bits import EDGE_BITS, FLOAT_BITS, unsigned_codes
from hwnas.quant.lsq import quantize_activation, quantize_weight
from hwnas.quant.merged import MergedWeight, TrainableLinear
from hwnas.quant.ranges import activation_range, signed_scale, weight_scales
from hwnas.supernet.position_tables import by_pair, quantize_table
from hwnas.supernet.trainable_attention import TrainableAttention

__all__ = ["ATTENTION_BITS", "BlockAttention", "BlockConv", "BlockLinear"]

ATTENTION_BITS = EDGE_BITS
_SAMPLE = 1 << 16  # values that a range is fitted to


class BlockLinear(nn.Module):
    """y = Q(W) Q(x) + b for x (..., I); all zero until filled. 32 bits leave it in float."""

    def __init__(self, inputs: int, outputs: int, w_bits: int, a_bits: int) -> None:
        super().__init__()
        self.w_bits, self.a_bits = w_bits, a_bits
        self.weight = nn.Parameter(torch.zeros(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale, self.range = _quantizers(outputs, w_bits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer."""
        if self.scale is None:
            return functional.linear(x, self.weight, self.bias)
        weight = MergedWeight(lambda: self.weight, (self.weight,), self.scale, self.w_bits)
        elements = x[0].numel()
        return TrainableLinear(weight, self.bias, self.range, self.a_bits, elements)(x)

    @torch.no_grad()
    def set_ranges(self, x: torch.Tensor) -> None:
        """Fit the quantizers to the weight and to inputs; nothing in float."""
        _set_ranges(self, x)


class BlockConv(nn.Module):
    """A depthwise 5 x 5 convolution of maps (B, g, g, C), zero-padded, with bias.

    Quantized as `BlockLinear` is; the padding is zero after the quantizer of the input.
    """

    def __init__(self, channels: int, w_bits: int, a_bits: int) -> None:
        super().__init__()
        self.w_bits, self.a_bits = w_bits, a_bits
        self.weight = nn.Parameter(torch.zeros(channels, 1, CONV_KERNEL, CONV_KERNEL))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale, self.range = _quantizers(channels, w_bits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer."""
        weight: torch.Tensor = self.weight
        if self.scale is not None and self.range is not None:
            weight = quantize_weight(weight, self.scale, self.w_bits)
            step, offset = self.range
            x = quantize_activation(x, step, offset, self.a_bits, elements=x[0].numel())
        maps = functional.conv2d(
            x.permute(0, 3, 1, 2), weight, self.bias, padding=CONV_KERNEL // 2, groups=len(weight)
        )
        return maps.permute(0, 2, 3, 1)

    @torch.no_grad()
    def set_ranges(self, x: torch.Tensor) -> None:
        """Fit the quantizers to the weight and to inputs; nothing in float."""
        _set_ranges(self, x)


class BlockAttention(nn.Module):
    """qkv (B, S·S, 3·heads·head_dim) to (B, S·S, heads·head_dim) with position tables of its own.

    Tables are trained in floating point and fixed where the block is quantized: rounding them has
    no gradient.
    """

    def __init__(self, side: int, heads: int, head_dim: int, *, quantized: bool) -> None:
        super().__init__()
        self.side, self.heads, self.head_dim = side, heads, head_dim
        self.height = nn.Parameter(torch.zeros(2 * side - 1, head_dim), not quantized)
        self.width = nn.Parameter(torch.zeros(2 * side - 1, head_dim), not quantized)
        self.scales = nn.Parameter(torch.ones(4)) if quantized else None

    def forward(self, qkv: torch.Tensor) -> torch.Tensor:
        """Mix the tokens of each region."""
        height: torch.Tensor = self.height
        width: torch.Tensor = self.width
        if self.scales is not None:
            height, width = quantize_table(height), quantize_table(width)
        bits = FLOAT_BITS if self.scales is None else ATTENTION_BITS
        attend = TrainableAttention(
            self.side, self.heads, self.head_dim, by_pair(height), by_pair(width), self.scales,
            bits, windows=1,
        )  # fmt: skip
        return attend(qkv)

    @torch.no_grad()
    def set_ranges(self, qkv: torch.Tensor) -> None:
        """Fit the quantizers of q, k and v; the softmax output spans 0 to 1."""
        if self.scales is None:
            return
        parts = [signed_scale(_sampled(part), ATTENTION_BITS) for part in qkv.chunk(3, dim=-1)]
        softmax = torch.tensor(1.0 / unsigned_codes(ATTENTION_BITS)[1])
        self.scales.copy_(torch.stack([*parts, softmax]))


def _quantizers(outputs: int, w_bits: int) -> tuple[nn.Parameter | None, nn.Parameter | None]:
    if w_bits == FLOAT_BITS:
        return None, None
    return nn.Parameter(torch.ones(outputs)), nn.Parameter(torch.tensor([1.0, 0.0]))


def _set_ranges(layer: BlockLinear | BlockConv, x: torch.Tensor) -> None:
    if layer.scale is None or layer.range is None:
        return
    layer.scale.copy_(weight_scales(layer.weight, layer.w_bits))
    layer.range.copy_(torch.stack(activation_range(_sampled(x), layer.a_bits)))


def _sampled(x: torch.Tensor) -> torch.Tensor:
    """Evenly spaced values of a tensor, with its extremes."""
    flat = x.reshape(-1)
    step = max(1, len(flat) // _SAMPLE)
    return torch.cat([flat[::step], flat.amin()[None], flat.amax()[None]])
