"""Builders of layers from their sizes, for spaces of any kind.

Each returns one `LayerSpec` for one image. Keyword arguments that are not named here (`group`,
`held_bits`, `per_prompt`) go to the layer unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hwnas.workload.layers import FLOAT_BITS, LayerSpec

__all__ = ["Bits", "conv", "conv_transpose", "elementwise", "linear", "matmul", "norm"]

_ACTIVATION_CONSTANTS = 2  # the step and the offset of an LSQ+ activation quantizer


@dataclass(frozen=True, slots=True)
class Bits:
    """Bits of a layer's weight (or second operand), of its input, and of its output as written."""

    w: int
    a: int
    out: int

    def spec(self) -> dict[str, Any]:
        """Return the fields of a `LayerSpec`."""
        return {"w_bits": self.w, "a_bits": self.a, "out_bits": self.out}

    def constants(self, channels: int) -> int:
        """Count stored scales: one a weight channel, and step and offset of the input."""
        weights = channels if self.w < 16 else 0
        return weights + (_ACTIVATION_CONSTANTS if self.a < 16 else 0)


def linear(
    name: str, rows: int, c_in: int, c_out: int, bits: Bits, *, bias: bool = True, **rest: Any
) -> LayerSpec:
    """Dense layer on `rows` tokens: rows x c_in x c_out MACs; `shape` is (rows, c_in, c_out)."""
    return LayerSpec(
        name,
        "linear",
        rows * c_in * c_out,
        c_in * c_out,
        rows * c_in,
        rows * c_out,
        scales=bits.constants(c_out),
        bias_elems=c_out if bias else 0,
        shape=(rows, c_in, c_out),
        **bits.spec(),
        **rest,
    )


def conv(
    name: str,
    channels: tuple[int, int],
    kernel: int,
    side: int,
    bits: Bits,
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = True,
    **rest: Any,
) -> LayerSpec:
    """Convolution to a map of `side` x `side`, padding counted; one group a channel is `dwconv`.

    `channels` are those of input and output. `shape` is (c_in, c_out, kernel, stride, groups,
    side); the input map is taken as (side x stride) squared.
    """
    c_in, c_out = channels
    weights = c_in // groups * c_out * kernel * kernel
    return LayerSpec(
        name,
        "dwconv" if groups == c_in and groups > 1 else "conv",
        side * side * weights,
        weights,
        (side * stride) ** 2 * c_in,
        side * side * c_out,
        scales=bits.constants(c_out),
        bias_elems=c_out if bias else 0,
        shape=(c_in, c_out, kernel, stride, groups, side),
        **bits.spec(),
        **rest,
    )


def conv_transpose(
    name: str, channels: tuple[int, int], kernel: int, side: int, bits: Bits, **rest: Any
) -> LayerSpec:
    """Transposed convolution whose stride equals its kernel, from `side` to `side x kernel`.

    Each input pixel meets each weight once. `shape` is (c_in, c_out, kernel, kernel, 1, side).
    """
    c_in, c_out = channels
    weights = c_in * c_out * kernel * kernel
    return LayerSpec(
        name,
        "conv",
        side * side * weights,
        weights,
        side * side * c_in,
        (side * kernel) ** 2 * c_out,
        scales=bits.constants(c_out),
        bias_elems=c_out,
        shape=(c_in, c_out, kernel, kernel, 1, side),
        **bits.spec(),
        **rest,
    )


def matmul(
    name: str, batch: int, rows: int, inner: int, cols: int, bits: Bits, **rest: Any
) -> LayerSpec:
    """Product of two activations, (batch, rows, inner) by (batch, inner, cols).

    `shape` is (batch, rows, inner, cols). `bits.a` are the left operand's, `bits.w` the right's.
    """
    return LayerSpec(
        name,
        "matmul",
        batch * rows * inner * cols,
        0,
        batch * rows * inner,
        batch * rows * cols,
        extra_in_elems=batch * inner * cols,
        scales=sum(_ACTIVATION_CONSTANTS for b in (bits.a, bits.w) if b < 16),
        shape=(batch, rows, inner, cols),
        **bits.spec(),
        **rest,
    )


def elementwise(
    name: str,
    kind: str,
    in_elems: int,
    out_elems: int,
    *,
    a_bits: int,
    out_bits: int,
    extra_in_elems: int = 0,
    ops_per_element: int = 1,
    **rest: Any,
) -> LayerSpec:
    """Layer without MACs: `ops_per_element` operations on each output element.

    A second operand (`extra_in_elems`, the residual of an `add`) has the bits of the first.
    `shape` (in `rest`), which kernels need where counts do not say enough, is by kind:

        softmax  (regions, heads, queries, keys, side); side is that of the square map whose
                 relative positions are added to the scores, 0 where none are
        act      () for GELU, (elements, 1) for ReLU
        window   (side of the map, side of a window, channels, 1 on the way back else 0)
        pool     (side of the map, channels, side of a pooled square)
        resize   (side of the map, channels, side of the result)
    """
    return LayerSpec(
        name,
        kind,
        0,
        0,
        in_elems,
        out_elems,
        extra_in_elems,
        element_ops=out_elems * ops_per_element,
        **Bits(a_bits, a_bits, out_bits).spec(),
        **rest,
    )


def norm(
    name: str, rows: int, channels: int, *, a_bits: int, out_bits: int, **rest: Any
) -> LayerSpec:
    """Layer norm over channels, with a scale and a shift a channel kept in floating point.

    `shape` is (rows, channels).
    """
    return LayerSpec(
        name,
        "norm",
        0,
        2 * channels,
        rows * channels,
        rows * channels,
        element_ops=rows * channels,
        shape=(rows, channels),
        **Bits(FLOAT_BITS, a_bits, out_bits).spec(),
        **rest,
    )
