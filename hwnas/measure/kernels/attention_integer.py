"""The two products of an attention on codes of at most 8 bits, which lie in bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hwnas.measure.kernels import packing
from hwnas.measure.kernels.cover import Summed, cover_by_depth, fitting_depth
from hwnas.measure.kernels.emit import (
    Buffer,
    Expr,
    broadcast,
    constant,
    each,
    ir,
    load,
    pieces,
    store,
    vector,
)
from hwnas.measure.kernels.isa import Isa
from hwnas.measure.kernels.regions import Region, Rows, write_rows
from hwnas.measure.kernels.tile import Tile, codes_at, integer_product, multiply_add

__all__ = ["IntegerProducts", "code_range"]


class IntegerProducts:
    """Products of codes of `bits` bits. `scales` are those of q, k, v and of the softmax's output.

    Where the dot instruction wants unsigned bytes on the left, queries are stored plus 128; where
    it wants signed ones, the softmax's codes are stored minus 128. What that adds to a sum is
    known of each column, and sums start at its negative.
    """

    def __init__(self, r: Region, isa: Isa, scales: Sequence[Expr], bits: int = 8) -> None:
        self.highest = (1 << bits) - 1  # of unsigned codes
        self.r, self.isa, self.lanes, self.scales = r, isa, isa.lanes, scales
        self.taken = packing.group(isa)
        one = constant(1, "float32", 1)
        self.inverse = [ir().bind(one / scale) for scale in scales]
        self.key_panels, self.value_panels = -(-r.keys // isa.lanes), -(-r.dim // isa.lanes)
        self.dim, self.depth = (packing.padded(n, self.taken) for n in (r.dim, r.keys))
        self.query_offset = 128 if isa.dot == "vpdpbusd" else 0
        self.weight_offset = -128 if isa.dot == "sdot" else 0

    def codes(self, x: Expr, which: int, lanes: int) -> Expr:
        """Quantize by scale `which`; the softmax's output has unsigned codes."""
        t = ir()
        inverse = broadcast(self.inverse[which], lanes)
        low, high = code_range(self.highest, signed=which < 3)
        v = t.max(t.nearbyint(x * inverse), constant(low, "float32", lanes))
        return t.Cast(vector("int32", lanes), t.min(v, constant(high, "float32", lanes)))

    def prepare(self, k: Rows, v: Rows) -> None:
        """Quantize keys and values and lay them out for the dot instruction."""
        t, lanes = ir(), self.lanes
        sizes = (self.key_panels * self.dim * lanes, self.value_panels * self.depth * lanes)
        self.keys, self.values = (t.alloc_buffer((n,), "int8") for n in sizes)
        for buffer, size in zip((self.keys, self.values), sizes, strict=True):
            with t.serial(0, size // lanes) as i:
                store(buffer, constant(0, "int8", lanes), i * lanes, lanes)
        self.pack_keys(k)
        self.pack_values(v, 2)
        self.key_start = self.start_of(self.keys, self.key_panels, self.dim, self.query_offset)
        self.value_start = self.start_of(
            self.values, self.value_panels, self.depth, self.weight_offset
        )

    def pack_keys(self, k: Rows) -> None:
        """Quantize a key at a time; `taken` neighbors of its codes stay together."""
        t, r, lanes, taken = ir(), self.r, self.lanes, self.taken
        row = t.alloc_buffer((self.dim,), "int8")
        store_zeros(row, r.dim, self.dim)
        with t.serial(0, r.keys) as j:
            for start, n in pieces(r.dim, lanes):
                codes = self.codes(load(k.buffer, k.place(j) + start, n), 1, n)
                store(row, t.Cast(vector("int8", n), codes), start, n)
            first = t.bind(j // lanes * self.dim * lanes + j % lanes * taken)
            with t.serial(0, self.dim // taken) as d:
                at = first + d * lanes * taken
                store(self.keys, load(row, d * taken, taken), at, taken)

    def pack_values(self, v: Rows, which: int) -> None:
        """Quantize `taken` values at a time and interleave their codes."""
        t, r, lanes, taken = ir(), self.r, self.lanes, self.taken

        def some(step: Expr, count: int) -> None:
            def vectors(start: Expr, n: int) -> None:
                at = (start // lanes * (self.depth // taken) + step) * lanes * taken
                at = at + start % lanes * taken
                words = constant(0, "int32", n)
                for i in range(count):
                    place = v.place(step * taken + i) + start
                    codes = self.codes(load(v.buffer, place, n), which, n)
                    if taken > 1:
                        codes = (codes & constant(255, "int32", n)) << constant(8 * i, "int32", n)
                    words = words + codes
                if taken == 1:
                    store(self.values, t.Cast(vector("int8", n), words), at, n)
                else:
                    store(self.values, t.reinterpret(f"int8x{4 * n}", words), at, 4 * n)

            each(lanes, r.dim, vectors)

        whole, rest = divmod(r.keys, taken)
        if whole:
            with t.serial(0, whole) as step:
                some(step, taken)
        if rest:
            some(whole, rest)

    def start_of(self, codes: Buffer, panels: int, depth: int, offset: int) -> Buffer | None:
        """What sums of each column start at, because left codes are stored plus `offset`."""
        if not offset:
            return None
        t, lanes, bytes_ = ir(), self.lanes, self.lanes * self.taken
        start = t.alloc_buffer((panels * lanes,), "int32")
        with t.serial(0, panels) as panel:
            store(start, constant(0, "int32", lanes), panel * lanes, lanes)
            with t.serial(0, depth // self.taken) as step:
                at = (panel * (depth // self.taken) + step) * bytes_
                column = packing.widened(self.isa, load(codes, at, bytes_))
                ones = constant(1, "int8", bytes_)
                total = load(start, panel * lanes, lanes)
                store(start, multiply_add(self.isa, total, ones, column), panel * lanes, lanes)
            by = constant(-offset, "int32", lanes)
            store(start, load(start, panel * lanes, lanes) * by, panel * lanes, lanes)
        return start

    def right_side(self, b: Rows) -> Buffer | None:
        """Prepare a plain product's right side as values; returns what its sums start at."""
        t, lanes = ir(), self.lanes
        size = self.value_panels * self.depth * lanes
        self.values = t.alloc_buffer((size,), "int8")
        with t.serial(0, size // lanes) as i:
            store(self.values, constant(0, "int8", lanes), i * lanes, lanes)
        self.pack_values(b, 1)
        return self.start_of(self.values, self.value_panels, self.depth, self.query_offset)

    def multiply(self, a: Rows, count: int, start: Buffer | None, out: Rows, first: Expr) -> None:
        """Quantize `count` rows and write their plain product with `right_side`."""
        t, lanes, keys = ir(), self.lanes, self.r.keys
        dtype = "uint8" if self.query_offset else "int8"
        left = t.alloc_buffer((count * self.depth,), dtype)
        with t.serial(0, count) as i:

            def some(at: Expr, n: int) -> None:
                codes = self.codes(load(a.buffer, a.place(i) + at, n), 0, n)
                codes = codes + constant(self.query_offset, "int32", n)
                store(left, t.Cast(vector(dtype, n), codes), i * self.depth + at, n)

            each(lanes, keys, some)
            for k in range(keys, self.depth):  # times codes of zero, so any would do
                store(left, constant(0, dtype, 1), i * self.depth + k, 1)
        by = t.bind(self.scales[0] * self.scales[1])

        def write(sums: Tile, row: Expr, panel: Expr) -> None:
            write_rows(self._scaled(sums, by), self.r.dim, out, first + row, panel)

        right = (self.values, self.depth, start)
        self.product(count, self.value_panels, (left, self.depth), right, write)

    def _scaled(self, sums: Tile, by: Expr) -> Tile:
        done = Tile.zeros(sums.rows, sums.vectors, self.lanes, "float32")
        for i in range(sums.rows):
            for j in range(sums.vectors):
                value = ir().Cast(vector("float32", self.lanes), sums.get(i, j))
                done.put(i, j, value * broadcast(by, self.lanes))
        return done

    def load_queries(self, q: Rows, first: Expr, count: int, query: Buffer) -> None:
        """Quantize a block of queries; `query` gets their values, for relative positions."""
        t, r = ir(), self.r
        dtype = "uint8" if self.query_offset else "int8"
        self.query = t.alloc_buffer((count * self.dim,), dtype)
        with t.serial(0, count) as i:
            for start, n in pieces(r.dim, self.lanes):
                codes = t.bind(self.codes(load(q.buffer, q.place(first + i) + start, n), 0, n))
                value = t.Cast(vector("float32", n), codes) * broadcast(self.scales[0], n)
                store(query, value, i * r.dim + start, n)
                shifted = codes + constant(self.query_offset, "int32", n)
                store(self.query, t.Cast(vector(dtype, n), shifted), i * self.dim + start, n)
            for d in range(r.dim, self.dim):  # times keys of zero, so any code would do
                store(self.query, constant(0, dtype, 1), i * self.dim + d, 1)
        dtype = "int8" if self.weight_offset else "uint8"
        self.weights = t.alloc_buffer((count * packing.padded(r.keys, self.lanes),), dtype)

    def scores(self, count: int, query: Buffer, scores: Buffer, width: int) -> None:
        """Write q k' / sqrt(d) of a block."""
        lanes = self.lanes
        by = ir().bind(self.scales[0] * self.scales[1] * constant(self.r.dim**-0.5, "float32", 1))

        def write(sums: Tile, row: Expr, panel: Expr) -> None:
            for i in range(sums.rows):
                for j in range(sums.vectors):
                    value = ir().Cast(vector("float32", lanes), sums.get(i, j))
                    at = (row + i) * width + (panel + j) * lanes
                    store(scores, value * broadcast(by, lanes), at, lanes)

        left, right = (self.query, self.dim), (self.keys, self.dim, self.key_start)
        self.product(count, self.key_panels, left, right, write)

    def normalize(self, scores: Buffer, row: Expr, width: int, total: Expr) -> None:
        """Divide a row by its sum and quantize it."""
        t, lanes = ir(), self.lanes
        inverse = t.bind(constant(1, "float32", 1) / total)
        with t.serial(0, width // lanes) as i:
            at = row * width + i * lanes
            value = load(scores, at, lanes) * broadcast(inverse, lanes)
            codes = self.codes(value, 3, lanes) + constant(self.weight_offset, "int32", lanes)
            dtype = vector(str(self.weights.dtype), lanes)
            store(self.weights, t.Cast(dtype, codes), at, lanes)

    def output(self, count: int, scores: Buffer, width: int, out: Rows, first: Expr) -> None:
        """Write the sums of values of a block."""
        by = ir().bind(self.scales[2] * self.scales[3])

        def write(sums: Tile, row: Expr, panel: Expr) -> None:
            write_rows(self._scaled(sums, by), self.r.dim, out, first + row, panel)

        left, right = (self.weights, width), (self.values, self.depth, self.value_start)
        self.product(count, self.value_panels, left, right, write, in_parts=True)

    def product(
        self, count: int, panels: int, left: tuple[Buffer, int],
        right: tuple[Buffer, int, Buffer | None], write: Callable[[Tile, Expr, Expr], None],
        *, in_parts: bool = False,
    ) -> None:  # fmt: skip
        """Cover a block with tiles: left is (codes, row stride), right (panels, depth, start).

        `in_parts` cuts the depth to fit the cache.
        """
        isa, lanes, taken = self.isa, self.lanes, self.taken
        codes, stride = left
        columns, depth, start = right
        steps, size = depth // taken, lanes * taken

        def begin(height: int, vectors: int, panel: Expr) -> Tile:
            sums = Tile.zeros(height, vectors, lanes, "int32")
            if start is not None:
                for j in range(vectors):
                    at_start = ir().bind(load(start, (panel + j) * lanes, lanes))
                    for i in range(height):
                        sums.put(i, j, at_start)
            return sums

        def multiply(sums: Tile, row: Expr, panel: Expr, first: Expr, count: int) -> None:
            integer_product(
                isa,
                sums,
                count,
                lambda i, s, _: codes_at(isa, codes, (row + i) * stride + (first + s) * taken),
                lambda j, s: [
                    packing.widened(
                        isa, load(columns, ((panel + j) * steps + first + s) * size, size)
                    )
                ],
            )

        whole = (count, steps, panels)
        cut = fitting_depth(isa, whole, size) if in_parts else steps
        cover_by_depth(isa, whole, cut, Summed("int32", begin, multiply, write))


def code_range(highest: int, *, signed: bool) -> tuple[float, float]:
    """Lowest and highest code of as many bits as `highest`, the largest unsigned one, has."""
    half = (highest + 1) // 2
    return (float(-half), float(half - 1)) if signed else (0.0, float(highest))


def store_zeros(buffer: Buffer, start: int, stop: int) -> None:
    for i in range(start, stop):
        store(buffer, constant(0, str(buffer.dtype), 1), i, 1)
