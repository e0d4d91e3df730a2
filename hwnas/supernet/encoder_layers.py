"""Where a subnet's layers come from: prepared once for inference, or rebuilt for each step.

Both factories answer the same four questions about a stock encoder and its scales, so that one
forward pass (`encoder_view.py`) serves search, evaluation and training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from hwnas.adapters import MatrixSlice
from hwnas.quant.bits import FLOAT_BITS
from hwnas.quant.integer import integer_products_exact
from hwnas.quant.linear import (
    ActivationGrid,
    FakeLinear,
    FloatLinear,
    IntegerLinear,
    QuantizedWeight,
    integer_codes,
    quantized_linear,
)
from hwnas.quant.lsq import positive, quantize_weight
from hwnas.quant.merged import MergedWeight, TrainableLinear
from hwnas.supernet.attention import Attention, AttentionGrids
from hwnas.supernet.encoder_weights import NECK_CONV, EncoderWeights, LayerSize
from hwnas.supernet.neck_conv import FloatConv, IntegerConv, TrainableConv, integer_conv
from hwnas.supernet.position_tables import by_offset, by_pair, quantize_table, resize_table
from hwnas.supernet.scale_table import ScaleTable, attention_key, weight_key
from hwnas.supernet.tensor_cache import TensorCache
from hwnas.supernet.trainable_attention import TrainableAttention

__all__ = ["AttentionShape", "InferenceLayers", "Layers", "TrainableLayers"]

Apply = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """Attention of one block: heads, and `windows` regions of `side` x `side` tokens."""

    block: int
    heads: int
    head_dim: int
    side: int
    windows: int


class Layers(Protocol):
    """A source of layers."""

    def linear(self, size: LayerSize, w_bits: int, a_bits: int, *, tokens: int) -> Apply:
        """A linear layer; `tokens` is how many it sees of one image."""
        ...

    def attention(self, shape: AttentionShape, bits: int) -> Apply:
        """The attention between qkv and proj."""
        ...

    def conv(self, bits: int, grid: int) -> Apply:
        """The second convolution of the neck on maps (B, grid, grid, C)."""
        ...


class InferenceLayers:
    """Layers for evaluation: weights quantized once for each bit-width, kept in a cache."""

    def __init__(self, weights: EncoderWeights, scales: ScaleTable, cache: TensorCache) -> None:
        self.weights, self.scales, self.cache = weights, scales, cache

    def linear(
        self, size: LayerSize, w_bits: int, a_bits: int, *, tokens: int
    ) -> FloatLinear | FakeLinear | IntegerLinear:
        """A layer whose bits may each be 32; two quantized operands multiply as integers."""
        del tokens
        paths = self.weights.paths(size.name, w_bits, a_bits)
        return self.cache.get(
            ("linear", size, w_bits, a_bits, paths), lambda: self._linear(size, w_bits, a_bits)
        )

    def attention(self, shape: AttentionShape, bits: int) -> Attention:
        """Attention with its tables at the shape's side."""
        table = self.cache.get(
            ("table", shape.block, shape.side, bits == FLOAT_BITS),
            lambda: self._table(shape, bits),
        )
        grids = None
        if bits != FLOAT_BITS:
            q, k, v, p = positive(self.scales[attention_key(shape.block, bits)]).tolist()
            grids = AttentionGrids(q, k, v, p, bits)
        return Attention(shape.side, shape.heads, shape.head_dim, table[0], grids)

    def conv(self, bits: int, grid: int) -> FloatConv | IntegerConv:
        """The second convolution of the neck, as integers where they are exact."""
        return self.cache.get(("conv", bits, grid), lambda: self._conv(bits, grid))

    def grid(self, layer: str, bits: int) -> ActivationGrid:
        """The grid of a layer's input."""
        return ActivationGrid.of(*self.scales.input_grid(layer, bits), bits)

    def codes(self, layer: str, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Integer codes (O, I) int8 and scales (O,) of a whole weight without adapters."""
        return self.cache.get(("codes", layer, bits), lambda: self._codes(layer, bits))

    def _linear(
        self, size: LayerSize, w_bits: int, a_bits: int
    ) -> FloatLinear | FakeLinear | IntegerLinear:
        bias = size.part.rows(self.weights.bias(size.name))
        if w_bits == FLOAT_BITS:
            weight = self.weights.merged(size, w_bits, a_bits)
            return FloatLinear(weight, bias, self._grid_or_none(size.name, a_bits))
        paths = self.weights.paths(size.name, w_bits, a_bits)
        sliced = self.cache.get(
            ("slice", size, w_bits, paths), lambda: self._slice(size, w_bits, a_bits, paths)
        )
        if a_bits == FLOAT_BITS:
            return FloatLinear(sliced.codes * sliced.scale[:, None], bias)
        return quantized_linear(sliced, bias, self.grid(size.name, a_bits))

    def _slice(
        self, size: LayerSize, w_bits: int, a_bits: int, paths: tuple[str, ...]
    ) -> QuantizedWeight:
        if paths:
            merged = self.weights.merged(size, w_bits, a_bits)
            return QuantizedWeight.of(*self._rounded(merged, size.name, w_bits, size.part))
        codes, scale = self.codes(size.name, w_bits)
        return QuantizedWeight.of(size.part.matrix(codes).contiguous(), size.part.rows(scale))

    def _conv(self, bits: int, side: int) -> FloatConv | IntegerConv:
        kernel = self.weights.kernel(NECK_CONV)
        if bits == FLOAT_BITS:
            return FloatConv(kernel)
        codes, scale = self.codes(NECK_CONV, bits)
        codes, grid = codes.view(kernel.shape), self.grid(NECK_CONV, bits)
        if codes.device.type == "cpu" and integer_products_exact():
            return integer_conv(codes, scale, grid, side)
        return FloatConv(codes * scale.view(-1, 1, 1, 1), grid)

    def _grid_or_none(self, layer: str, bits: int) -> ActivationGrid | None:
        return None if bits == FLOAT_BITS else self.grid(layer, bits)

    def _codes(self, layer: str, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._rounded(self.weights.weight(layer), layer, bits)

    def _rounded(
        self, weight: torch.Tensor, layer: str, bits: int, part: MatrixSlice | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scale = positive(_row_scales(self.scales, layer, bits, part)).expand(len(weight))
        return integer_codes(weight, scale, bits, centered=self.scales.grid_is_centered(bits))

    def _table(self, shape: AttentionShape, bits: int) -> tuple[torch.Tensor | None]:
        """In a tuple, because a table of zeros is remembered as None."""
        tables = _tables(self.weights.encoder, shape, bits)
        if not any(bool(table.any()) for table in tables):
            return (None,)
        return (by_offset(*tables),)


class TrainableLayers:
    """Layers for training: fake-quantized with gradients for weights, scales and offsets."""

    def __init__(
        self, weights: EncoderWeights, scales: ScaleTable, *, checkpoint: bool = False
    ) -> None:
        self.weights, self.scales, self.checkpoint = weights, scales, checkpoint

    def linear(self, size: LayerSize, w_bits: int, a_bits: int, *, tokens: int) -> TrainableLinear:
        """A layer whose bits may each be 32."""
        scale = None
        if w_bits != FLOAT_BITS:
            scale = _row_scales(self.scales, size.name, w_bits, size.part)
        weight = MergedWeight(
            lambda: self.weights.merged(size, w_bits, a_bits),
            self.weights.sources(size.name, w_bits, a_bits),
            scale, w_bits, centered=self.scales.grid_is_centered(w_bits),
        )  # fmt: skip
        bias = size.part.rows(self.weights.bias(size.name))
        quantized = a_bits != FLOAT_BITS
        input_range = self.scales.input_range(size.name, a_bits) if quantized else None
        return TrainableLinear(weight, bias, input_range, a_bits, tokens * size.inp)

    def attention(self, shape: AttentionShape, bits: int) -> TrainableAttention:
        """Attention with its tables at the shape's side."""
        height, width = (by_pair(t) for t in _tables(self.weights.encoder, shape, bits))
        scales = None if bits == FLOAT_BITS else self.scales[attention_key(shape.block, bits)]
        return TrainableAttention(
            shape.side, shape.heads, shape.head_dim, height, width, scales, bits, shape.windows,
            self.checkpoint,
        )  # fmt: skip

    def conv(self, bits: int, grid: int) -> FloatConv | TrainableConv:
        """The second convolution of the neck; `grid` is read off the map."""
        del grid
        kernel = self.weights.kernel(NECK_CONV)
        if bits == FLOAT_BITS:
            return FloatConv(kernel)
        weight = quantize_weight(kernel, self.scales[weight_key(NECK_CONV, bits)], bits)
        return TrainableConv(weight, self.scales.input_range(NECK_CONV, bits), bits)


def _row_scales(
    scales: ScaleTable, layer: str, bits: int, part: MatrixSlice | None
) -> torch.Tensor:
    """Weight scales of the active rows, or the one (1,) of the whole tensor."""
    found = scales[weight_key(layer, bits)]
    return found if part is None or len(found) == 1 else part.rows(found)


def _tables(encoder: Any, shape: AttentionShape, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    attention = encoder.blocks[shape.block].attn
    height = resize_table(attention.rel_pos_h, shape.side)
    width = resize_table(attention.rel_pos_w, shape.side)
    if bits == FLOAT_BITS:
        return height, width
    return quantize_table(height), quantize_table(width)
