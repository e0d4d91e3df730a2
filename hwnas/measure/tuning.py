"""Which schedules of a kernel are worth a try, and the search for the fastest.

The search is greedy: a candidate is the best schedule so far with one choice changed, and it takes
its place if it is clearly faster. Choices take turns (register tile, unrolling, block of rows,
depth of a float product), the most promising values of each first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Final

from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels.attention import BLOCK_QUERIES
from hwnas.measure.kernels.gemm_integer import BLOCK_ROWS
from hwnas.measure.kernels.isa import PORTABLE, Isa
from hwnas.measure.kernels.product import Product
from hwnas.measure.kernels.schedule import DEFAULT, Schedule
from hwnas.measure.kernels.tile import tile_shape

__all__ = ["Compare", "Found", "find_schedule", "is_tunable"]

_CLEARLY: Final = 0.98  # of the best time: less of a gain may be noise
_PRODUCTS: Final = ("linear", "conv", "conv_transpose")
_UNROLL: Final = (2, 4, 8)
_BLOCKS: Final = (48, 192, 24, 384, 96, 12)
_DEPTHS: Final = (256, 512, 128)
_MOST_ROWS, _MOST_VECTORS = 16, 6

Compare = Callable[[Schedule, Schedule], tuple[float, float] | None]
"""Milliseconds of two schedules that took turns; None where the second cannot be built."""


@dataclass(frozen=True, slots=True)
class Found:
    """The fastest schedule, its time and the default's, and how many candidates were tried."""

    schedule: Schedule
    ms: float
    default_ms: float
    tried: int


@dataclass(frozen=True, slots=True)
class _Size:
    """What a schedule divides; `depth` is 0 where it cannot be cut, `block` is the kernel's own."""

    rows: int
    panels: int
    block: int
    depth: int = 0
    packed: int = 0


def is_tunable(kernel: Kernel) -> bool:
    """Whether a kernel is made of register tiles, so that it has a schedule to choose."""
    return _size(kernel, PORTABLE) is not None


def find_schedule(kernel: Kernel, isa: Isa, tries: int, compare: Compare) -> Found:
    """Try up to `tries` candidates; the result was compared with the default once more."""
    best, tried, seen = DEFAULT, 0, {DEFAULT}
    for change in _changes(kernel, isa):
        if tried == tries:
            break
        candidate = replace(best, **change)
        if candidate in seen:
            continue
        seen.add(candidate)
        tried += 1
        times = compare(best, candidate)
        if times is not None and times[1] < _CLEARLY * times[0]:
            best = candidate
    last = compare(DEFAULT, best)
    assert last is not None  # both were built before
    default_ms, ms = last
    if best != DEFAULT and ms >= _CLEARLY * default_ms:
        best, ms = DEFAULT, default_ms
    return Found(best, ms, default_ms, tried)


def _changes(kernel: Kernel, isa: Isa) -> Iterator[dict[str, int]]:
    """Values of one choice each, choices in turn."""
    size = _size(kernel, isa)
    if size is None:
        return
    axes: list[list[dict[str, int]]] = [
        [{"rows": rows, "vectors": vectors} for rows, vectors in _tiles(isa, size)],
        [{"unroll": unroll} for unroll in _UNROLL],
        [{"block": block} for block in _BLOCKS if block < size.rows and block != size.block],
        [{"depth": depth} for depth in _DEPTHS if depth < size.depth],
    ]
    for turn in zip_longest(*axes):
        yield from (change for change in turn if change is not None)


def _tiles(isa: Isa, size: _Size) -> list[tuple[int, int]]:
    """Register tiles that fit, other than the default, by loads a product and padding."""

    def cost(tile: tuple[int, int]) -> float:
        rows, vectors = tile
        padded = -(-size.panels // vectors) * vectors / size.panels
        return (1 / rows + 1 / vectors) + padded * -(-size.rows // rows) * rows / size.rows

    fitting = [
        (rows, vectors)
        for rows in range(1, min(size.rows, _MOST_ROWS) + 1)
        for vectors in range(1, min(size.panels, _MOST_VECTORS) + 1)
        if rows * vectors + vectors * (1 + size.packed) + 1 <= isa.registers
    ]
    usual = tile_shape(isa, size.rows, size.panels, size.packed)
    return [tile for tile in sorted(fitting, key=cost) if tile != usual]


def _size(kernel: Kernel, isa: Isa) -> _Size | None:
    """Sizes of a kernel that is made of register tiles; None for others."""
    if kernel.kind in _PRODUCTS:
        p = Product.of(kernel)
        whole = kernel.dtype != "int8" and kernel.w_bits >= 16
        packed = 1 if kernel.dtype == "int8" and kernel.w_bits < 8 else 0
        return _Size(p.rows, p.panels(isa.lanes), BLOCK_ROWS, p.depth if whole else 0, packed)
    if kernel.kind == "matmul":
        _, rows, _, columns = kernel.shape
        return _Size(rows, -(-columns // isa.lanes), BLOCK_ROWS)
    if kernel.kind == "attention":
        tokens = kernel.shape[2] ** 2
        return _Size(tokens, -(-tokens // isa.lanes), BLOCK_QUERIES)
    if kernel.kind == "cross_attention":
        _, queries, keys, _ = kernel.shape
        return _Size(queries, -(-keys // isa.lanes), BLOCK_QUERIES)
    return None
