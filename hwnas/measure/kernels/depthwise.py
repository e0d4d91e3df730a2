"""Depthwise convolution: each channel with its own small kernel.

The input is first brought into a map with its padding around it, as numbers or as codes. Codes are
multiplied as float32, which is exact: 255 x 128 x 49 taps is below 2^24. Weights below 8 bits lie
in whole bytes; there are few of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels.emit import (
    Buffer,
    Expr,
    broadcast,
    constant,
    each,
    function,
    ir,
    load,
    store,
    tiles,
    vector,
)
from hwnas.measure.kernels.family import Array, Family, Problem
from hwnas.measure.kernels.isa import Isa

__all__ = ["DEPTHWISE", "pack"]


@dataclass(frozen=True, slots=True)
class _Sizes:
    channels: int
    taps: int  # along one side
    stride: int
    side: int  # of the output

    @classmethod
    def of(cls, kernel: Kernel) -> _Sizes:
        channels, _, taps, stride, _, side = kernel.shape
        return cls(channels, taps, stride, side)

    @property
    def in_side(self) -> int:
        return self.side * self.stride

    @property
    def before(self) -> int:
        return self.taps // 2

    @property
    def wide(self) -> int:
        """Side of the padded map."""
        return (self.side - 1) * self.stride + max(self.taps, self.stride)


def emit(kernel: Kernel, isa: Isa) -> Any:
    """Write the kernel: x, [quantizer], weight (taps, channels), [scale], shift, y."""
    s, whole = _Sizes.of(kernel), kernel.dtype.startswith("int")
    weight_type = {"fp16": "float16"}.get(kernel.dtype, "int8" if whole else "float32")
    channel = ("float32",)
    return function(
        [
            ("x", s.in_side**2 * s.channels, "float32"),
            *([("quantizer", 3, "float32")] if whole else []),
            ("weight", s.taps**2 * s.channels, weight_type),
            *([("scale", s.channels, *channel)] if whole else []),
            ("shift", s.channels, *channel),
            ("y", s.side**2 * s.channels, "float32"),
        ],
        lambda x, *rest: _body(s, isa, whole, x, list(rest)),
    )


def _body(s: _Sizes, isa: Isa, whole: bool, x: Buffer, rest: list[Buffer]) -> None:
    t = ir()
    quantizer = rest.pop(0) if whole else None
    weight, *scale, shift, y = rest
    padded = t.alloc_buffer((s.wide**2 * s.channels,), "float32")

    def number(value: Expr, n: int) -> Expr:
        if quantizer is None:
            return value
        inverse, offset, highest = (broadcast(quantizer[i], n) for i in range(3))
        return t.max(t.min(t.nearbyint((value - offset) * inverse), highest), _zero(n))

    with t.parallel(0, s.wide) as row, t.serial(0, s.wide) as column:
        to = t.bind((row * s.wide + column) * s.channels)
        h, w = t.bind(row - s.before), t.bind(column - s.before)
        at = t.bind((h * s.in_side + w) * s.channels)
        inside = t.And(t.And(h >= 0, h < s.in_side), t.And(w >= 0, w < s.in_side))
        with t.If(inside):
            with t.Then():
                each(
                    isa.lanes,
                    s.channels,
                    lambda i, n: store(padded, number(load(x, at + i, n), n), to + i, n),
                )
            with t.Else():
                each(
                    isa.lanes,
                    s.channels,
                    lambda i, n: store(padded, number(_zero(n), n), to + i, n),
                )

    def pixels(row: Expr, column: Expr, count: int) -> None:
        def some(start: Expr, n: int) -> None:
            sums = [t.alloc_buffer((n,), "float32", scope="local") for _ in range(count)]
            for total in sums:
                store(total, _zero(n), 0, n)
            with t.serial(0, s.taps) as i:
                for j in range(s.taps):
                    at = (i * s.taps + j) * s.channels + start
                    by = t.bind(t.Cast(vector("float32", n), load(weight, at, n)))
                    for p, total in enumerate(sums):
                        h = row * s.stride + i
                        w = (column + p) * s.stride + j
                        v = load(padded, (h * s.wide + w) * s.channels + start, n)
                        store(total, load(total, 0, n) + v * by, 0, n)
            for p, total in enumerate(sums):
                value = load(total, 0, n)
                if scale:
                    value = value * load(scale[0], start, n)
                to = (row * s.side + column + p) * s.channels + start
                store(y, value + load(shift, start, n), to, n)

        each(isa.lanes, s.channels, some)

    with t.parallel(0, s.side) as row:
        tiles(s.side, min(4, s.side), lambda c, n: pixels(row, c, n), parallel=False)


def _zero(lanes: int) -> Expr:
    return constant(0, "float32", lanes)


def pack(
    kernel: Kernel, weight: Array, bias: Array, *, weight_scale: Array | None = None,
    scale: float = 1.0, offset: float = 0.0, highest: int = 255,
) -> tuple[Array, ...]:  # fmt: skip
    """Return the constants for a weight (taps, channels); as `gemm.pack`."""
    flat = weight.reshape(-1)
    if weight_scale is None:
        dtype = np.float16 if kernel.dtype == "fp16" else np.float32
        return flat.astype(dtype), bias.astype(np.float32)
    by = scale * weight_scale
    shift = bias + by * (offset / scale) * weight.sum(0)
    quantizer = np.array([1 / scale, offset, highest], np.float32)
    return quantizer, flat.astype(np.int8), by.astype(np.float32), shift.astype(np.float32)


def problem(kernel: Kernel, isa: Isa, rng: np.random.Generator) -> Problem:
    """Draw a map and weights."""
    s = _Sizes.of(kernel)
    x = rng.standard_normal((s.in_side, s.in_side, s.channels), np.float32)
    bias = rng.standard_normal(s.channels, np.float32)
    elems = s.side**2 * s.channels
    if not kernel.dtype.startswith("int"):
        weight = rng.standard_normal((s.taps**2, s.channels), np.float32)
        weight = weight.astype(np.float16).astype(np.float32) if kernel.dtype == "fp16" else weight
        constants = pack(kernel, weight, bias)
        return Problem((x.ravel(),), constants, elems, lambda: _reference(s, x, weight, bias, 0.0))
    top = 1 << (kernel.w_bits - 1)
    codes = rng.integers(-top, top, (s.taps**2, s.channels))
    weight_scale = rng.uniform(0.5, 1.5, s.channels) / (top * s.taps)
    scale, offset = float(np.float32(6 / 255)), -3.0
    constants = pack(kernel, codes, bias, weight_scale=weight_scale, scale=scale, offset=offset)

    def expected() -> Array:
        def rounded(value: Array) -> Array:
            u = np.rint((value - np.float32(offset)) * np.float32(1 / scale))
            return np.asarray(np.clip(u, 0, 255).astype(np.float64) * scale + offset)

        around = float(rounded(np.zeros(1, np.float32))[0])
        return _reference(s, rounded(x), codes * weight_scale, bias, around)

    return Problem((x.ravel(),), constants, elems, expected)


def _reference(s: _Sizes, x: Array, weight: Array, bias: Array, around: float) -> Array:
    import torch
    from torch.nn import functional

    maps = torch.from_numpy(np.asarray(x, np.float64)).permute(2, 0, 1)[None]
    w = torch.from_numpy(np.asarray(weight, np.float64)).view(s.taps, s.taps, s.channels)
    after = s.wide - s.in_side - s.before
    pad = (s.before, max(after, 0), s.before, max(after, 0))
    y = functional.conv2d(
        functional.pad(maps, pad, value=around),
        w.permute(2, 0, 1)[:, None],
        torch.from_numpy(bias).double(),
        stride=s.stride,
        groups=s.channels,
    )
    return np.asarray(y[0].permute(1, 2, 0).numpy()).ravel()


DEPTHWISE = Family(emit, problem)
