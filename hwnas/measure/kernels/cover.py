"""Register tiles over a whole product: all rows by all panels, the depth whole or in parts.

A group of panels serves every row of a block. Where a group is larger than the first-level cache,
each tile would bring it from the next one; in parts of the depth that fit it comes once a block,
and the sums of a tile wait in memory from one part to the next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hwnas.measure.kernels.emit import Expr, ir, load, store, tiles
from hwnas.measure.kernels.isa import Isa
from hwnas.measure.kernels.tile import Tile, tile_shape

__all__ = ["Summed", "cover", "cover_by_depth", "fitting_depth"]

_CACHED_BYTES: Final = 16 * 1024
"""Of a group of panels: half a first-level cache of 32 KiB, rows and sums need the rest."""


@dataclass(frozen=True, slots=True)
class Summed:
    """How a tile comes about; rows are counted from the first of the block.

    Attributes:
        dtype: Of the sums.
        begin: Takes rows, vectors and the first panel, returns what sums start at.
        multiply: Adds the products of a part: tile, first row, first panel, start, steps.
        finish: Takes the summed tile, its first row and its first panel.
    """

    dtype: str
    begin: Callable[[int, int, Expr], Tile]
    multiply: Callable[[Tile, Expr, Expr, Expr, int], None]
    finish: Callable[[Tile, Expr, Expr], None]


def cover(
    isa: Isa,
    rows: int,
    panels: int,
    tile: Callable[[Expr, int, Expr, int], None],
    *,
    before: Callable[[Expr, int], None] | None = None,
    packed: int = 0,
) -> None:
    """Cover rows x panels with tiles, panels outside, so that a panel stays in cache.

    `tile(row, height, panel, vectors)` writes one; `before(panel, vectors)` runs once for each
    group of panels; `packed` as in `tile_shape`.
    """
    height, vectors = tile_shape(isa, rows, panels, packed)

    def group(panel: Expr, v: int) -> None:
        if before is not None:
            before(panel, v)
        tiles(rows, height, lambda row, h: tile(row, h, panel, v), parallel=False)

    tiles(panels, vectors, group, parallel=False)


def fitting_depth(isa: Isa, size: tuple[int, int, int], step_bytes: int) -> int:
    """Steps of `size` (rows, depth, panels) after which to cut, in parts of one size.

    A step takes `step_bytes` of each panel.
    """
    rows, depth, panels = size
    _, vectors = tile_shape(isa, rows, panels)
    parts = -(-depth * step_bytes * vectors // _CACHED_BYTES)
    return -(-depth // parts)


def cover_by_depth(isa: Isa, size: tuple[int, int, int], cut: int, summed: Summed) -> None:
    """Cover (rows, depth, panels) with tiles; after `cut` steps the other rows take their turn."""
    rows, depth, panels = size
    height, vectors = tile_shape(isa, rows, panels)

    def whole(row: Expr, h: int, panel: Expr, v: int) -> None:
        sums = summed.begin(h, v, panel)
        summed.multiply(sums, row, panel, 0, depth)
        summed.finish(sums, row, panel)

    if cut >= depth or rows <= height:  # one tile takes each weight once anyway
        cover(isa, rows, panels, whole)
        return

    def group(panel: Expr, v: int) -> None:
        _in_parts(isa, (rows, height), (depth, cut), (panel, v), summed)

    tiles(panels, vectors, group, parallel=False)


def _in_parts(
    isa: Isa, rows: tuple[int, int], depth: tuple[int, int], panels: tuple[Expr, int],
    summed: Summed,
) -> None:  # fmt: skip
    """Sum one group of panels; `rows` and `depth` are how many, and how many at a time."""
    (every, height), (steps, cut), (panel, vectors) = rows, depth, panels
    lanes = isa.lanes
    kept = ir().alloc_buffer((every * vectors * lanes,), summed.dtype)

    def part(start: Expr, count: int, *, first: bool = False, last: bool = False) -> None:
        def tile(row: Expr, h: int) -> None:
            places = [
                (i, j, ((row + i) * vectors + j) * lanes) for i in range(h) for j in range(vectors)
            ]
            if first:
                sums = summed.begin(h, vectors, panel)
            else:
                sums = Tile.empty(h, vectors, lanes, summed.dtype)
                for i, j, at in places:
                    sums.put(i, j, load(kept, at, lanes))
            summed.multiply(sums, row, panel, start, count)
            if last:
                summed.finish(sums, row, panel)
                return
            for i, j, at in places:
                store(kept, sums.get(i, j), at, lanes)

        tiles(every, height, tile, parallel=False)

    before_last = (steps - 1) // cut
    part(0, cut, first=True)
    if before_last > 1:
        with ir().serial(1, before_last) as index:
            part(index * cut, cut)
    part(before_last * cut, steps - before_last * cut, last=True)
