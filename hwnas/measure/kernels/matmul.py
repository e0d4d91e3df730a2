"""Products of two activations: (batch, rows, inner) by (batch, inner, columns).

Integer ones quantize both sides to signed 8-bit codes with one scale each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels.attention_integer import IntegerProducts
from hwnas.measure.kernels.cover import cover
from hwnas.measure.kernels.emit import (
    Buffer,
    Expr,
    constant,
    function,
    ir,
    load,
    pieces,
    store,
    tiles,
)
from hwnas.measure.kernels.family import Array, Family, Problem
from hwnas.measure.kernels.isa import Isa
from hwnas.measure.kernels.regions import Region, Rows, write_rows
from hwnas.measure.kernels.tile import Tile, float_product

__all__ = ["MATMUL"]

_BLOCK_ROWS = 96
_ROWS_WITHOUT_PANELS = 16


def emit(kernel: Kernel, isa: Isa) -> Any:
    """Write the kernel: a, b, y."""
    if kernel.dtype == "int8":
        return emit_integer(kernel, isa)
    batch, rows, inner, columns = kernel.shape
    lanes = isa.lanes
    panels = -(-columns // lanes)

    def body(a: Buffer, b: Buffer, y: Buffer) -> None:
        t = ir()
        with t.parallel(0, batch) as index:
            right, step, first_of = _right_side(
                isa, Rows(b, index * inner * columns, columns), kernel.shape
            )

            def block(first: Expr, count: int) -> None:
                left = t.bind((index * rows + first) * inner)
                out = Rows(y, index * rows * columns, columns)

                def tile(row: Expr, height: int, panel: Expr, vectors: int) -> None:
                    sums = Tile.zeros(height, vectors, lanes, "float32")
                    float_product(
                        sums,
                        inner,
                        lambda i, k: a[left + (row + i) * inner + k],
                        lambda j, k: load(right, first_of(panel + j) + k * step, lanes),
                        isa.schedule.unroll,
                    )
                    write_rows(sums, columns, out, first + row, panel)

                cover(isa, count, panels, tile)

            tiles(rows, min(rows, isa.schedule.block or _BLOCK_ROWS), block, parallel=False)

    return function(
        [
            ("a", batch * rows * inner, "float32"),
            ("b", batch * inner * columns, "float32"),
            ("y", batch * rows * columns, "float32"),
        ],
        body,
    )


def _right_side(
    isa: Isa, b: Rows, shape: tuple[int, ...]
) -> tuple[Buffer, int, Callable[[Expr], Expr]]:
    """Return (buffer, scalars from one depth to the next, where a panel begins).

    A few rows read b as it is; for more it is worth laying it out as panels.
    """
    t, lanes = ir(), isa.lanes
    _, rows, inner, columns = shape
    if rows <= _ROWS_WITHOUT_PANELS and columns % lanes == 0:
        return b.buffer, columns, lambda panel: b.at + panel * lanes
    panels, whole = -(-columns // lanes), columns // lanes
    right = t.alloc_buffer((panels * inner * lanes,), "float32")
    with t.serial(0, inner) as k:
        at = t.bind(b.place(k))
        if whole:
            with t.serial(0, whole) as p:
                value = load(b.buffer, at + p * lanes, lanes)
                store(right, value, (p * inner + k) * lanes, lanes)
        if whole < panels:
            last = (whole * inner + k) * lanes
            store(right, constant(0, "float32", lanes), last, lanes)
            for start, n in pieces(columns % lanes, lanes):
                value = load(b.buffer, at + whole * lanes + start, n)
                store(right, value, last + start, n)
    return right, lanes, lambda panel: panel * (inner * lanes)


def emit_integer(kernel: Kernel, isa: Isa) -> Any:
    """Write the kernel on 8-bit codes: a, b, scales of a and b, y."""
    batch, rows, inner, columns = kernel.shape
    size = Region(rows, inner, columns)

    def body(a: Buffer, b: Buffer, scales: Buffer, y: Buffer) -> None:
        t = ir()
        with t.parallel(0, batch) as index:
            math = IntegerProducts(size, isa, [scales[0], scales[1]])
            right = math.right_side(Rows(b, index * inner * columns, columns))
            out = Rows(y, index * rows * columns, columns)

            def block(first: Expr, count: int) -> None:
                left = Rows(a, (index * rows + first) * inner, inner)
                math.multiply(left, count, right, out, first)

            tiles(rows, min(rows, isa.schedule.block or _BLOCK_ROWS), block, parallel=False)

    return function(
        [
            ("a", batch * rows * inner, "float32"),
            ("b", batch * inner * columns, "float32"),
            ("scales", 2, "float32"),
            ("y", batch * rows * columns, "float32"),
        ],
        body,
    )


def problem(kernel: Kernel, isa: Isa, rng: np.random.Generator) -> Problem:
    """Draw both sides."""
    batch, rows, inner, columns = kernel.shape
    a = rng.standard_normal((batch, rows, inner), np.float32)
    b = rng.standard_normal((batch, inner, columns), np.float32)
    scales = np.array([4 / 128, 4 / 128], np.float32)
    whole = kernel.dtype == "int8"

    def expected() -> Array:
        import torch

        left, right = (
            torch.from_numpy(rounded(x, s) if whole else x).double()
            for x, s in zip((a, b), scales, strict=True)
        )
        return np.asarray((left @ right).ravel())

    def rounded(x: Array, scale: np.float32) -> Array:
        codes = np.clip(np.rint(x * (np.float32(1) / scale)), -128, 127)
        return codes.astype(np.float64) * float(scale)

    constants = (scales,) if whole else ()
    return Problem((a.ravel(), b.ravel()), constants, batch * rows * columns, expected)


MATMUL = Family(emit, problem)
