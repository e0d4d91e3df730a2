"""The two products of an attention in float32."""

from __future__ import annotations

from hwnas.measure.kernels.cover import Summed, cover, cover_by_depth, fitting_depth
from hwnas.measure.kernels.emit import (
    Buffer,
    Expr,
    broadcast,
    constant,
    ir,
    load,
    pieces,
    store,
)
from hwnas.measure.kernels.isa import Isa
from hwnas.measure.kernels.regions import Region, Rows, write_rows
from hwnas.measure.kernels.tile import Tile, float_product

__all__ = ["FloatProducts"]


class FloatProducts:
    """Products of float32: keys as panels (dim, lanes), values as panels (keys, lanes)."""

    def __init__(self, r: Region, isa: Isa) -> None:
        self.r, self.isa, self.lanes = r, isa, isa.lanes
        self.key_panels, self.value_panels = -(-r.keys // isa.lanes), -(-r.dim // isa.lanes)

    def prepare(self, k: Rows, v: Rows) -> None:
        """Lay keys and values out; what pads them is zero."""
        t, r, lanes = ir(), self.r, self.lanes
        zero = constant(0, "float32", 1)
        self.keys = t.alloc_buffer((self.key_panels * r.dim * lanes,), "float32")
        self.values = t.alloc_buffer((self.value_panels * r.keys * lanes,), "float32")

        def place(j: Expr, d: Expr) -> Expr:
            return (j // lanes * r.dim + d) * lanes + j % lanes

        with t.serial(0, r.keys) as j:
            with t.serial(0, r.dim) as d:
                store(self.keys, k.buffer[k.place(j) + d], place(j, d), 1)
            for start, n in pieces(r.dim, lanes):
                at = (start // lanes * r.keys + j) * lanes + start % lanes
                store(self.values, load(v.buffer, v.place(j) + start, n), at, n)
            for d in range(r.dim, self.value_panels * lanes):
                store(self.values, zero, (d // lanes * r.keys + j) * lanes + d % lanes, 1)
        for j in range(r.keys, self.key_panels * lanes):
            with t.serial(0, r.dim) as d:
                store(self.keys, zero, place(j, d), 1)

    def load_queries(self, q: Rows, first: Expr, count: int, query: Buffer) -> None:
        """Copy a block of queries as they are multiplied."""
        t, dim = ir(), self.r.dim
        self.inverse = t.alloc_buffer((count,), "float32")
        with t.serial(0, count) as i:
            for start, n in pieces(dim, self.lanes):
                value = load(q.buffer, q.place(first + i) + start, n)
                store(query, value, i * dim + start, n)

    def scores(self, count: int, query: Buffer, scores: Buffer, width: int) -> None:
        """Write q k' / sqrt(d) of a block."""
        r, lanes = self.r, self.lanes
        by = constant(r.dim**-0.5, "float32", lanes)

        def tile(row: Expr, height: int, panel: Expr, vectors: int) -> None:
            sums = Tile.zeros(height, vectors, lanes, "float32")
            float_product(
                sums,
                r.dim,
                lambda i, d: query[(row + i) * r.dim + d],
                lambda j, d: load(self.keys, ((panel + j) * r.dim + d) * lanes, lanes),
                self.isa.schedule.unroll,
            )
            for i in range(height):
                for j in range(vectors):
                    at = (row + i) * width + (panel + j) * lanes
                    store(scores, sums.get(i, j) * by, at, lanes)

        cover(self.isa, count, self.key_panels, tile)

    def normalize(self, scores: Buffer, row: Expr, width: int, total: Expr) -> None:
        """Keep the inverse of a row's sum, by which its output is multiplied."""
        store(self.inverse, constant(1, "float32", 1) / total, row, 1)

    def output(self, count: int, scores: Buffer, width: int, out: Rows, first: Expr) -> None:
        """Write the sums of values of a block."""
        r, n = self.r, self.lanes

        def multiply(sums: Tile, row: Expr, panel: Expr, start: Expr, steps: int) -> None:
            float_product(
                sums,
                steps,
                lambda i, j: scores[(row + i) * width + start + j],
                lambda p, j: load(self.values, ((panel + p) * r.keys + start + j) * n, n),
                self.isa.schedule.unroll,
            )

        def finish(sums: Tile, row: Expr, panel: Expr) -> None:
            for i in range(sums.rows):
                by = ir().bind(broadcast(self.inverse[row + i], n))
                for p in range(sums.vectors):
                    sums.put(i, p, sums.get(i, p) * by)
            write_rows(sums, r.dim, out, first + row, panel)

        size = (count, r.keys, self.value_panels)
        summed = Summed("float32", lambda h, v, _: Tile.zeros(h, v, n, "float32"), multiply, finish)
        cover_by_depth(self.isa, size, fitting_depth(self.isa, size, 4 * n), summed)
