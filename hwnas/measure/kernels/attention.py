"""Attention in one kernel: scores, relative positions, softmax and the sum of values.

One head of one region at a time: keys and values are laid out as panels, then a block of query rows
at a time gets its scores, which stay in cache until its output is written.

    y = softmax(q k' / sqrt(d) + rel_h + rel_w) v

rel_h and rel_w are products of the query with rows of two tables, chosen by the vertical and the
horizontal distance to the key (segment-anything `image_encoder.py`, `add_decomposed_rel_pos`).

Integer kernels quantize q, k and v to signed codes with one scale each, and the softmax's output to
unsigned ones; both products are exact in int32. Codes have the kernel's `a_bits`, 8 or fewer, and
lie in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels import packing
from hwnas.measure.kernels.attention_float import FloatProducts
from hwnas.measure.kernels.attention_integer import IntegerProducts, code_range
from hwnas.measure.kernels.emit import (
    Buffer,
    Expr,
    across,
    broadcast,
    constant,
    exp,
    function,
    ir,
    load,
    pieces,
    store,
    tiles,
)
from hwnas.measure.kernels.family import Array, Family, Problem
from hwnas.measure.kernels.isa import Isa
from hwnas.measure.kernels.regions import Region, Rows
from hwnas.measure.kernels.tile import (
    Tile,
)

__all__ = ["ATTENTION", "BLOCK_QUERIES", "CROSS_ATTENTION", "pack_table"]

BLOCK_QUERIES = 24
_NEVER = -1e30


@dataclass(frozen=True)
class Tables:
    """Relative positions as `pack_table` lays them out; `width` scalars a row."""

    vertical: Buffer
    horizontal: Buffer
    width: int


def table_width(isa: Isa, side: int) -> int:
    """Scalars of a table's row, with room for a vector that starts at the last distance."""
    return 2 * side - 1 + isa.lanes


def pack_table(isa: Isa, table: Array) -> Array:
    """Lay a table (2 side - 1, dim) out as (dim, distance falling), padded for whole vectors."""
    return np.pad(table[::-1].T, ((0, 0), (0, isa.lanes))).astype(np.float32).ravel()


def emit_attention(kernel: Kernel, isa: Isa) -> Any:
    """Write self-attention: qkv (tokens, 3, heads, dim), two tables, [scales], y."""
    windows, heads, side, dim = kernel.shape
    r, inner = Region.of(kernel), heads * dim
    tokens, width = windows * side * side, table_width(isa, side)

    def body(qkv: Buffer, *rest: Buffer) -> None:
        vertical, horizontal, *scales, y = rest
        with ir().parallel(0, windows * heads) as index:
            window, head = index // heads, index % heads
            first = window * r.keys * 3 * inner + head * dim
            q, k, v = (Rows(qkv, first + i * inner, 3 * inner) for i in range(3))
            out = Rows(y, window * r.keys * inner + head * dim, inner)
            tables = Tables(vertical, horizontal, width)
            _head(r, isa, (q, k, v, out), tables, scales, kernel.a_bits)

    table = ("float32",)
    return function(
        [
            ("qkv", tokens * 3 * inner, "float32"),
            ("vertical", dim * width, *table),
            ("horizontal", dim * width, *table),
            *_scales(kernel),
            ("y", tokens * inner, "float32"),
        ],
        body,
    )


def emit_cross(kernel: Kernel, isa: Isa) -> Any:
    """Write attention between two sets of tokens: q, k, v (tokens, heads, dim), [scales], y."""
    heads, queries, keys, dim = kernel.shape
    r, inner = Region.of(kernel), heads * dim

    def body(q: Buffer, k: Buffer, v: Buffer, *rest: Buffer) -> None:
        *scales, y = rest
        with ir().parallel(0, heads) as head:
            rows = tuple(Rows(b, head * dim, inner) for b in (q, k, v, y))
            _head(r, isa, rows, None, scales, kernel.a_bits)

    return function(
        [
            ("q", queries * inner, "float32"),
            ("k", keys * inner, "float32"),
            ("v", keys * inner, "float32"),
            *_scales(kernel),
            ("y", queries * inner, "float32"),
        ],
        body,
    )


def _scales(kernel: Kernel) -> list[tuple[str, int, str]]:
    return [("scales", 4, "float32")] if kernel.dtype.startswith("int") else []


def _head(
    r: Region, isa: Isa, rows: tuple[Rows, ...], tables: Tables | None, scales: list[Buffer],
    bits: int,
) -> None:  # fmt: skip
    q, k, v, out = rows
    t = ir()
    math = (
        IntegerProducts(r, isa, [scales[0][i] for i in range(4)], bits)
        if scales
        else FloatProducts(r, isa)
    )
    math.prepare(k, v)
    width = packing.padded(r.keys, isa.lanes)
    block = min(r.queries, isa.schedule.block or BLOCK_QUERIES)
    scores = t.alloc_buffer((block * width,), "float32")
    query = t.alloc_buffer((block * r.dim,), "float32")

    def some(first: Expr, count: int) -> None:
        math.load_queries(q, first, count, query)
        math.scores(count, query, scores, width)
        if tables is not None:
            together = max(1, min(4, 12 // (2 * -(-r.side // isa.lanes))))
            tiles(
                count,
                together,
                lambda i, n: _relative(r, isa, tables, query, scores, (i, first + i, n)),
                parallel=False,
            )
        with t.serial(0, count) as i:
            for column in range(r.keys, width):
                store(scores, constant(_NEVER, "float32", 1), i * width + column, 1)
            total = _exponentials(isa, scores, i * width, width)
            math.normalize(scores, i, width, total)
        math.output(count, scores, width, out, first)

    tiles(r.queries, block, some, parallel=False)


def _relative(
    r: Region,
    isa: Isa,
    tables: Tables,
    query: Buffer,
    scores: Buffer,
    some: tuple[Expr, Expr, int],
) -> None:
    """Add both position products of some queries to their rows of scores.

    `some` is (first row in the block, its token, rows).

    The rows' sums are independent of each other, which hides the latency of a multiply-add.
    """
    row, token, count = some
    t, lanes, side, width = ir(), isa.lanes, r.side, packing.padded(r.keys, isa.lanes)
    vectors = -(-side // lanes)
    # row i has its vertical sums at vectors 0 to v - 1 and its horizontal ones behind them
    found = Tile.zeros(count, 2 * vectors, lanes, "float32")
    starts = [
        (t.bind(side - 1 - (token + i) // side), t.bind(side - 1 - (token + i) % side))
        for i in range(count)
    ]
    with t.serial(0, r.dim) as d:
        for i in range(count):
            q = t.bind(broadcast(query[(row + i) * r.dim + d], lanes))
            for half, table in enumerate((tables.vertical, tables.horizontal)):
                for j in range(vectors):
                    at = d * tables.width + starts[i][half] + j * lanes
                    column = half * vectors + j
                    found.put(i, column, found.get(i, column) + q * load(table, at, lanes))
    kept = t.alloc_buffer((count * 2 * vectors * lanes,), "float32")
    for i in range(count):
        for j in range(2 * vectors):
            store(kept, found.get(i, j), found.at(i, j), lanes)
        with t.serial(0, side) as line:
            up = t.bind(kept[found.at(i, 0) + line])
            for start, n in pieces(side, lanes):
                at = t.bind((row + i) * width + line * side + start)
                beside = load(kept, found.at(i, vectors) + start, n)
                store(scores, load(scores, at, n) + (beside + broadcast(up, n)), at, n)


def _exponentials(isa: Isa, scores: Buffer, at: Expr, width: int) -> Expr:
    """Replace a row of scores by e^(score - largest) and return the sum."""
    t, lanes = ir(), isa.lanes
    steps = width // lanes
    top = t.alloc_buffer((lanes,), "float32", scope="local")
    store(top, load(scores, at, lanes), 0, lanes)
    with t.serial(0, steps) as i:
        store(top, t.max(load(top, 0, lanes), load(scores, at + i * lanes, lanes)), 0, lanes)
    largest = t.bind(across(load(top, 0, lanes), lanes, t.max))
    total = t.alloc_buffer((lanes,), "float32", scope="local")
    store(total, constant(0, "float32", lanes), 0, lanes)
    with t.serial(0, steps) as i:
        e = exp(load(scores, at + i * lanes, lanes) - broadcast(largest, lanes), lanes)
        store(scores, e, at + i * lanes, lanes)
        store(total, load(total, 0, lanes) + e, 0, lanes)
    return t.bind(across(load(total, 0, lanes), lanes, lambda a, b: a + b))


def attention_problem(kernel: Kernel, isa: Isa, rng: np.random.Generator) -> Problem:
    """Draw self-attention with position tables of the published initialization's size."""
    windows, heads, side, dim = kernel.shape
    tokens = windows * side * side
    qkv = rng.standard_normal((windows, side * side, 3, heads, dim), np.float32)
    tables = [0.3 * rng.standard_normal((2 * side - 1, dim), np.float32) for _ in range(2)]
    constants = tuple(pack_table(isa, table) for table in tables)
    extra, rounded = _drawn_scales(kernel)

    def expected() -> Array:
        q, k, v = np.moveaxis(qkv, (2, 3), (0, 2))  # each (windows, heads, tokens, dim)
        y = reference((q, k, v), tables, side, rounded, kernel.a_bits)
        return y.transpose(0, 2, 1, 3).ravel()

    elems = tokens * heads * dim
    return Problem((qkv.ravel(),), (*constants, *extra), elems, expected, _tolerance(kernel))


def cross_problem(kernel: Kernel, isa: Isa, rng: np.random.Generator) -> Problem:
    """Draw queries, keys and values."""
    heads, queries, keys, dim = kernel.shape
    q, k, v = (rng.standard_normal((n, heads, dim), np.float32) for n in (queries, keys, keys))
    extra, rounded = _drawn_scales(kernel)

    def expected() -> Array:
        parts = tuple(part.swapaxes(0, 1)[None] for part in (q, k, v))
        y = reference(parts, None, 0, rounded, kernel.a_bits)
        return np.asarray(y[0].swapaxes(0, 1).ravel())

    inputs = (q.ravel(), k.ravel(), v.ravel())
    return Problem(inputs, extra, queries * heads * dim, expected, _tolerance(kernel))


def _drawn_scales(kernel: Kernel) -> tuple[tuple[Array, ...], Array | None]:
    if not kernel.dtype.startswith("int"):
        return (), None
    keys = Region.of(kernel).keys
    half = 1 << (kernel.a_bits - 1)
    scales = np.array([4 / half] * 3 + [min(1.0, 24 / keys) / (2 * half - 1)], np.float32)
    return (scales,), scales


def _tolerance(kernel: Kernel) -> float:
    # A softmax output on the border of two codes may fall to either side, which moves the result
    # by one step of the softmax times one value; the float kernel has rounding only.
    return 2e-2 if kernel.dtype.startswith("int") else 1e-5


def reference(
    parts: tuple[Array, ...], tables: list[Array] | None, side: int, scales: Array | None,
    bits: int = 8,
) -> Array:  # fmt: skip
    """Compute attention in float64 with torch, on codes of `bits` where `scales` are given."""
    import torch

    q, k, v = (torch.from_numpy(np.ascontiguousarray(part)).double() for part in parts)
    if scales is not None:
        s = torch.from_numpy(scales)
        inverse = 1 / s
        signed, unsigned = (code_range((1 << bits) - 1, signed=is_) for is_ in (True, False))
        q, k, v = (
            (part.float() * inverse[i]).round().clamp(*signed).double() * s[i].double()
            for i, part in enumerate((q, k, v))
        )
    scores = q @ k.mT * q.shape[-1] ** -0.5
    if tables is not None:
        grid = torch.arange(side)
        distance = grid[:, None] - grid[None, :] + side - 1
        r_h, r_w = (torch.from_numpy(table).double()[distance] for table in tables)
        maps = q.reshape(*q.shape[:2], side, side, -1)
        rel_h = torch.einsum("bnhwc,hkc->bnhwk", maps, r_h)[..., :, None]
        rel_w = torch.einsum("bnhwc,wkc->bnhwk", maps, r_w)[..., None, :]
        scores = scores + (rel_h + rel_w).reshape(scores.shape)
    weights = scores.softmax(-1)
    if scales is not None:
        codes = (weights.float() * inverse[3]).round().clamp(*unsigned)
        weights = codes.double() * s[3].double()
    return np.asarray((weights @ v).numpy())


ATTENTION = Family(emit_attention, attention_problem)
CROSS_ATTENTION = Family(emit_cross, cross_problem)
