"""Where the rows of a product come from, and where its columns go.

Maps are NHWC, so tokens and pixels are the same thing; a patch is (row, column, channel).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels.emit import Buffer, Expr, broadcast, each, ir, load, pieces, store
from hwnas.measure.kernels.isa import Isa
from hwnas.measure.kernels.tile import Tile

__all__ = ["Product", "copy", "copy_patch", "each_run", "write"]


@dataclass(frozen=True, slots=True)
class Product:
    """A product of (rows, depth) by (depth, columns), and where both sides come from.

    Attributes:
        patch: Side of a convolution's kernel; 1 where rows are read as they are.
        stride: Of the convolution.
        side: Side of the output map of a convolution, of the input map of a transposed one; 0
            where there is no map.
        channels: Channels of the input map.
        spread: Side of the square that a row's columns are spread to, above 1 for a transposed
            convolution.
    """

    rows: int
    depth: int
    columns: int
    patch: int = 1
    stride: int = 1
    side: int = 0
    channels: int = 0
    spread: int = 1

    @classmethod
    def of(cls, kernel: Kernel) -> Product:
        """Read a kernel's shape."""
        if kernel.kind == "linear":
            rows, depth, columns = kernel.shape
            return cls(rows, depth, columns)
        c_in, c_out, side_of_patch, stride, _, side = kernel.shape
        area = side_of_patch**2
        if kernel.kind == "conv_transpose":
            return cls(side**2, c_in, area * c_out, side=side, spread=side_of_patch)
        return cls(side**2, area * c_in, c_out, side_of_patch, stride, side, c_in)

    @property
    def in_side(self) -> int:
        return self.side * self.stride

    @property
    def padding(self) -> int:
        """Rows and columns of zeros before the map; a patch as large as its stride needs none."""
        return 0 if self.patch == self.stride else self.patch // 2

    @property
    def in_elems(self) -> int:
        return self.in_side**2 * self.channels if self.channels else self.rows * self.depth

    @property
    def copies(self) -> bool:
        """Whether patches have to be copied together."""
        return self.patch > 1 or self.stride > 1

    @property
    def cells(self) -> int:
        """Output pixels of a row: its columns are (cell, channel)."""
        return self.spread**2

    @property
    def c_out(self) -> int:
        return self.columns // self.cells

    def panels_of_cell(self, lanes: int) -> int:
        """Panels of `lanes` channels of one cell; the last may be padded."""
        return -(-self.c_out // lanes)

    def panels(self, lanes: int) -> int:
        return self.cells * self.panels_of_cell(lanes)

    def place(self, row: Expr, cell: Expr, channel: Expr) -> Expr:
        """Where the output keeps a scalar."""
        if self.spread == 1:
            return row * self.columns + channel
        line = row // self.side * self.spread + cell // self.spread
        column = row % self.side * self.spread + cell % self.spread
        return (line * (self.side * self.spread) + column) * self.c_out + channel


def write(p: Product, result: Tile, y: Buffer, row: Expr, panel: Expr) -> None:
    """Store a finished tile; channels that only pad a panel are left out."""
    t, lanes = ir(), result.lanes
    per_cell, rest = p.panels_of_cell(lanes), p.c_out % lanes
    for j in range(result.vectors):
        cell = t.bind((panel + j) // per_cell)
        channel = t.bind((panel + j) % per_cell * lanes)
        for i in range(result.rows):
            at = p.place(row + i, cell, channel)
            if not rest:
                store(y, result.get(i, j), at, lanes)
                continue
            with t.If(channel + lanes <= p.c_out):
                with t.Then():
                    store(y, result.get(i, j), at, lanes)
                with t.Else():
                    for start, width in pieces(rest, lanes):
                        value = load(result.sums, result.at(i, j) + start, width)
                        store(y, value, at + start, width)


def each_run(p: Product, pixel: Expr, some: Callable[[Expr, Expr, int], None]) -> None:
    """Run `some(place in x, place in the patch, size)` over the rows of a patch without padding."""
    t, size = ir(), p.patch * p.channels
    top, left = t.bind(pixel // p.side * p.stride), t.bind(pixel % p.side * p.stride)
    with t.serial(0, p.patch) as i:
        some(t.bind(((top + i) * p.in_side + left) * p.channels), t.bind(i * size), size)


def copy_patch(
    p: Product, isa: Isa, x: Buffer, zero: Expr, to: Buffer, target: Expr, pixel: Expr
) -> None:
    """Copy the patch around an output pixel, with `zero` outside of the map."""
    t, run = ir(), p.channels
    if not p.padding:
        each_run(p, pixel, lambda at, start, size: copy(isa, x, at, to, target + start, size))
        return
    top = t.bind(pixel // p.side * p.stride - p.padding)
    left = t.bind(pixel % p.side * p.stride - p.padding)
    with t.serial(0, p.patch) as i, t.serial(0, p.patch) as j:
        start = t.bind(target + (i * p.patch + j) * run)
        at = t.bind(((top + i) * p.in_side + left + j) * run)
        h, w = top + i, left + j
        inside = t.And(t.And(h >= 0, h < p.in_side), t.And(w >= 0, w < p.in_side))
        with t.If(inside):
            with t.Then():
                copy(isa, x, at, to, start, run)
            with t.Else():
                copy(isa, zero, None, to, start, run)


def copy(isa: Isa, source: Any, at: Expr | None, to: Buffer, target: Expr, size: int) -> None:
    """Copy a run of scalars; without `at`, `source` is a scalar that is written everywhere."""
    wide = isa.lanes * (1 if str(to.dtype) == "float32" else 4)

    def some(start: Expr, lanes: int) -> None:
        value = broadcast(source, lanes) if at is None else load(source, at + start, lanes)
        store(to, value, target + start, lanes)

    each(wide, size, some)
