"""Kernels without products: sums, activations, windows, pooling, resizing, embeddings.

Maps are (row, column, channel).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels.emit import (
    Buffer,
    Expr,
    constant,
    each,
    function,
    gelu,
    ir,
    load,
    store,
    tiles,
)
from hwnas.measure.kernels.family import Array, Family, Problem
from hwnas.measure.kernels.isa import Isa
from hwnas.measure.kernels.product import copy

__all__ = [
    "ADD",
    "COPY",
    "FOURIER",
    "GELU",
    "POOL",
    "QUANTIZE",
    "RELU",
    "RESIZE",
    "UNWINDOW",
    "WINDOW",
]

_CHUNK = 4096


def _each(isa: Isa, size: int, some: Callable[[Expr, int], None]) -> None:
    """Run `some(start, lanes)` over `size` scalars, chunks in parallel."""

    def chunk(first: Expr, count: int) -> None:
        each(isa.lanes, count, lambda i, n: some(first + i, n))

    tiles(size, min(size, _CHUNK), chunk, parallel=True)


def _elementwise(operands: int, value: Callable[..., Expr]) -> Callable[[Kernel, Isa], Any]:
    """Write y[i] = value of one or two operands at i."""

    def emit(kernel: Kernel, isa: Isa) -> Any:
        (size,) = kernel.shape

        def body(*buffers: Buffer) -> None:
            *x, y = buffers
            _each(isa, size, lambda i, n: store(y, value(*(load(b, i, n) for b in x), n), i, n))

        names = ("a", "b")[:operands]
        return function([(name, size, "float32") for name in (*names, "y")], body)

    return emit


def _drawn(operands: int, value: Callable[..., Any]) -> Any:
    def problem(kernel: Kernel, isa: Isa, rng: np.random.Generator) -> Problem:
        (size,) = kernel.shape
        x = tuple(2 * rng.standard_normal(size, np.float32) for _ in range(operands))

        def expected() -> Array:
            import torch

            return np.asarray(value(*(torch.from_numpy(v).double() for v in x)).numpy())

        return Problem(x, (), size, expected)

    return problem


def _torch_gelu(x: Any) -> Any:
    import torch

    return torch.nn.functional.gelu(x)


def emit_window(kernel: Kernel, isa: Isa) -> Any:
    """Write the cut of a map into windows, or the way back: (side, window, channels)."""
    side, window, channels = kernel.shape
    count, area = -(-side // window), window * window
    whole, cut = side * side * channels, count * count * area * channels

    def into(x: Buffer, y: Buffer) -> None:
        t = ir()
        with t.parallel(0, count * count) as w, t.serial(0, window) as i, t.serial(0, window) as j:
            row, column = t.bind(w // count * window + i), t.bind(w % count * window + j)
            target = t.bind((w * area + i * window + j) * channels)
            at = t.bind((row * side + column) * channels)
            if side % window == 0:
                copy(isa, x, at, y, target, channels)
                return
            with t.If(t.And(row < side, column < side)):
                with t.Then():
                    copy(isa, x, at, y, target, channels)
                with t.Else():
                    copy(isa, constant(0, "float32", 1), None, y, target, channels)

    def back(x: Buffer, y: Buffer) -> None:
        t = ir()
        with t.parallel(0, side) as row, t.serial(0, side) as column:
            w = row // window * count + column // window
            at = t.bind((w * area + row % window * window + column % window) * channels)
            copy(isa, x, at, y, (row * side + column) * channels, channels)

    if kernel.kind == "window":
        return function([("x", whole, "float32"), ("y", cut, "float32")], into)
    return function([("x", cut, "float32"), ("y", whole, "float32")], back)


def window_problem(kernel: Kernel, isa: Isa, rng: np.random.Generator) -> Problem:
    """Draw a map."""
    side, window, channels = kernel.shape
    count = -(-side // window)
    full = count * window
    x = np.zeros((full, full, channels), np.float32)
    x[:side, :side] = rng.standard_normal((side, side, channels), np.float32)
    cut = x.reshape(count, window, count, window, channels).swapaxes(1, 2).ravel()
    whole = x[:side, :side].ravel()
    source, result = (whole, cut) if kernel.kind == "window" else (cut, whole)
    return Problem((source,), (), result.size, lambda: result.astype(np.float64), 0.0)


def emit_pool(kernel: Kernel, isa: Isa) -> Any:
    """Write the mean over squares: (side, channels, side of a square)."""
    side, channels, square = kernel.shape
    out = side // square

    def body(x: Buffer, y: Buffer) -> None:
        t = ir()
        with t.parallel(0, out * out) as pixel:
            row, column = t.bind(pixel // out * square), t.bind(pixel % out * square)

            def some(start: Expr, n: int) -> None:
                total = t.alloc_buffer((n,), "float32", scope="local")
                store(total, constant(0, "float32", n), 0, n)
                with t.serial(0, square) as i, t.serial(0, square) as j:
                    at = ((row + i) * side + column + j) * channels + start
                    store(total, load(total, 0, n) + load(x, at, n), 0, n)
                mean = load(total, 0, n) * constant(1 / square**2, "float32", n)
                store(y, mean, pixel * channels + start, n)

            each(isa.lanes, channels, some)

    return function(
        [("x", side * side * channels, "float32"), ("y", out * out * channels, "float32")], body
    )


def pool_problem(kernel: Kernel, isa: Isa, rng: np.random.Generator) -> Problem:
    """Draw a map."""
    side, channels, square = kernel.shape
    x = rng.standard_normal((side, side, channels), np.float32)
    out = side // square

    def expected() -> Array:
        kept = x[: out * square, : out * square].astype(np.float64)
        return np.asarray(kept.reshape(out, square, out, square, channels).mean((1, 3)).ravel())

    return Problem((x.ravel(),), (), out * out * channels, expected)


def emit_resize(kernel: Kernel, isa: Isa) -> Any:
    """Write bilinear enlargement, corners not aligned: (side, channels, side of the result)."""
    side, channels, out = kernel.shape
    ratio = side / out

    def body(x: Buffer, y: Buffer) -> None:
        t = ir()

        def place(index: Expr) -> tuple[Expr, Expr, Expr]:
            at = t.Cast("float32", index) * t.float32(ratio) + t.float32(0.5 * ratio - 0.5)
            at = t.bind(t.max(at, t.float32(0)))
            low = t.bind(t.min(t.Cast("int32", at), side - 1))
            return low, t.bind(t.min(low + 1, side - 1)), t.bind(at - t.Cast("float32", low))

        with t.parallel(0, out) as row:
            top, bottom, down = place(row)
            with t.serial(0, out) as column:
                left, right, across = place(column)

                def some(start: Expr, n: int) -> None:
                    a, b, c, d = (
                        load(x, (h * side + w) * channels + start, n)
                        for h in (top, bottom)
                        for w in (left, right)
                    )
                    u = t.bind(a + (b - a) * _wide(across, n))
                    v = t.bind(c + (d - c) * _wide(across, n))
                    at = (row * out + column) * channels + start
                    store(y, u + (v - u) * _wide(down, n), at, n)

                each(isa.lanes, channels, some)

    return function(
        [("x", side * side * channels, "float32"), ("y", out * out * channels, "float32")], body
    )


def resize_problem(kernel: Kernel, isa: Isa, rng: np.random.Generator) -> Problem:
    """Draw a map."""
    side, channels, out = kernel.shape
    x = rng.standard_normal((side, side, channels), np.float32)

    def expected() -> Array:
        import torch

        maps = torch.from_numpy(x).double().permute(2, 0, 1)[None]
        y = torch.nn.functional.interpolate(maps, (out, out), mode="bilinear", align_corners=False)
        return np.asarray(y[0].permute(1, 2, 0).numpy()).ravel()

    return Problem((x.ravel(),), (), out * out * channels, expected)


def emit_fourier(kernel: Kernel, isa: Isa) -> Any:
    """Write SAM's features of points: xy (points, 2) in 0 to 1, frequencies (2, n), y (points, 2n).

    Sines and cosines are LLVM's, one scalar at a time: a prompt has few points.
    """
    points, width = kernel.shape

    def body(xy: Buffer, frequencies: Buffer, y: Buffer) -> None:
        t = ir()
        with t.serial(0, points) as p, t.serial(0, width) as f:
            u, v = (xy[p * 2 + i] * t.float32(2) - t.float32(1) for i in range(2))
            angle = t.bind(
                (u * frequencies[f] + v * frequencies[width + f]) * t.float32(2 * math.pi)
            )
            store(y, t.sin(angle), p * 2 * width + f, 1)
            store(y, t.cos(angle), (p * 2 + 1) * width + f, 1)

    return function(
        [
            ("xy", points * 2, "float32"),
            ("frequencies", 2 * width, "float32"),
            ("y", points * 2 * width, "float32"),
        ],
        body,
    )


def fourier_problem(kernel: Kernel, isa: Isa, rng: np.random.Generator) -> Problem:
    """Draw points and frequencies."""
    points, width = kernel.shape
    xy = rng.random((points, 2), np.float32)
    frequencies = rng.standard_normal((2, width), np.float32)

    def expected() -> Array:
        angle = 2 * np.pi * ((2 * xy.astype(np.float64) - 1) @ frequencies)
        return np.concatenate([np.sin(angle), np.cos(angle)], 1).ravel()

    inputs, constants = (xy.ravel(),), (frequencies.ravel(),)
    return Problem(inputs, constants, points * 2 * width, expected, 1e-4)


def emit_copy(kernel: Kernel, isa: Isa) -> Any:
    """Write the copy of a table to an activation."""
    (size,) = kernel.shape

    def body(table: Buffer, y: Buffer) -> None:
        _each(isa, size, lambda i, n: store(y, load(table, i, n), i, n))

    return function([("table", size, "float32"), ("y", size, "float32")], body)


def copy_problem(kernel: Kernel, isa: Isa, rng: np.random.Generator) -> Problem:
    """Draw a table."""
    (size,) = kernel.shape
    table = rng.standard_normal(size, np.float32)
    return Problem((), (table,), size, lambda: table.astype(np.float64), 0.0)


def _wide(value: Expr, lanes: int) -> Expr:
    return value if lanes == 1 else ir().broadcast(value, lanes)


def _relu(x: Expr, lanes: int) -> Expr:
    return ir().max(x, constant(0, "float32", lanes))


def emit_quantize(kernel: Kernel, isa: Isa) -> Any:
    """Write the rounding to a grid: x, (scale, 1 / scale, offset, highest code), y."""
    (size,) = kernel.shape

    def body(x: Buffer, grid: Buffer, y: Buffer) -> None:
        t = ir()

        def some(i: Expr, n: int) -> None:
            scale, inverse, offset, highest = (_wide(grid[j], n) for j in range(4))
            code = t.nearbyint((load(x, i, n) - offset) * inverse)
            code = t.max(t.min(code, highest), constant(0, "float32", n))
            store(y, code * scale + offset, i, n)

        _each(isa, size, some)

    return function([("x", size, "float32"), ("grid", 4, "float32"), ("y", size, "float32")], body)


def quantize_problem(kernel: Kernel, isa: Isa, rng: np.random.Generator) -> Problem:
    """Draw numbers, some beyond the grid."""
    (size,) = kernel.shape
    x = 2 * rng.standard_normal(size, np.float32)
    scale, offset = np.float32(6 / 255), np.float32(-3)
    grid = np.array([scale, 1 / scale, offset, 255], np.float32)

    def expected() -> Array:
        codes = np.clip(np.rint((x - offset) * grid[1]), 0, 255)
        return np.asarray(codes.astype(np.float64) * float(scale) + float(offset))

    return Problem((x,), (grid,), size, expected)


QUANTIZE = Family(emit_quantize, quantize_problem)
ADD = Family(_elementwise(2, lambda a, b, _: a + b), _drawn(2, lambda a, b: a + b))
GELU = Family(_elementwise(1, gelu), _drawn(1, _torch_gelu))
RELU = Family(_elementwise(1, _relu), _drawn(1, lambda x: x.relu()))
WINDOW = UNWINDOW = Family(emit_window, window_problem)
POOL = Family(emit_pool, pool_problem)
RESIZE = Family(emit_resize, resize_problem)
FOURIER = Family(emit_fourier, fourier_problem)
COPY = Family(emit_copy, copy_problem)
