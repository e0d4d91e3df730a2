"""The kernels that we compile, one family a file.

Kinds and their shapes:

    linear           (rows, c_in, c_out)
    conv             (c_in, c_out, kernel, stride, groups, side of the output)
    conv_transpose   (c_in, c_out, kernel, kernel, 1, side of the input)
    dwconv           as conv, c_in = c_out = groups
    attention        (windows, heads, side, head_dim), relative positions
    cross_attention  (heads, queries, keys, head_dim)
    matmul           (batch, rows, inner, columns)
    norm, softmax    (rows, channels)
    add, gelu, relu, copy, quantize  (scalars,)
    window, unwindow (side of the map, side of a window, channels)
    pool             (side, channels, side of a square)
    resize           (side, channels, side of the result)
    fourier          (points, frequencies)
"""

from __future__ import annotations

from typing import Final

from hwnas.measure.kernels.attention import ATTENTION, CROSS_ATTENTION
from hwnas.measure.kernels.depthwise import DEPTHWISE
from hwnas.measure.kernels.family import Family, Problem
from hwnas.measure.kernels.gemm import CONV, CONV_TRANSPOSE, LINEAR
from hwnas.measure.kernels.isa import Isa, isa_of
from hwnas.measure.kernels.matmul import MATMUL
from hwnas.measure.kernels.moving import (
    ADD,
    COPY,
    FOURIER,
    GELU,
    POOL,
    QUANTIZE,
    RELU,
    RESIZE,
    UNWINDOW,
    WINDOW,
)
from hwnas.measure.kernels.rows import NORM, SOFTMAX

__all__ = ["FAMILIES", "SCHEDULE_VERSION", "Family", "Isa", "Problem", "isa_of"]

SCHEDULE_VERSION: Final = 4
"""Raised with every change of a kernel's code, so that nothing stale is loaded or compared."""

FAMILIES: Final[dict[str, Family]] = {
    "linear": LINEAR,
    "conv": CONV,
    "conv_transpose": CONV_TRANSPOSE,
    "dwconv": DEPTHWISE,
    "attention": ATTENTION,
    "cross_attention": CROSS_ATTENTION,
    "matmul": MATMUL,
    "norm": NORM,
    "softmax": SOFTMAX,
    "add": ADD,
    "gelu": GELU,
    "relu": RELU,
    "copy": COPY,
    "window": WINDOW,
    "unwindow": UNWINDOW,
    "pool": POOL,
    "quantize": QUANTIZE,
    "resize": RESIZE,
    "fourier": FOURIER,
}
"""The family of each kind."""
