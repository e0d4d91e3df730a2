"""Attention of an exported graph: integer products of queries, keys and values.

The arithmetic is that of `hwnas.supernet.attention`: signed codes of q, k and v, an unsigned code
of the softmax, relative positions from the codes of q and 8-bit tables. Windows are cut in the same
transposition that separates the heads, so that cutting costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwnas.export.layer_codes import CENTER, CodedLayer, CodedTable, coded_table
from hwnas.export.onnx_layers import LayerWriter, Move
from hwnas.quant.bits import signed_codes, unsigned_codes
from hwnas.supernet.attention import Attention

__all__ = ["AttentionWriter"]


@dataclass(frozen=True)
class AttentionWriter:
    """Attention of one block on a map of `grid` x `grid` tokens, a multiple of the window.

    `columns` windows lie side by side; `side` is that of a window in tokens.
    """

    write: LayerWriter
    attention: Attention
    grid: int
    name: str

    @property
    def side(self) -> int:
        return self.attention.side

    @property
    def columns(self) -> int:
        return self.grid // self.attention.side

    @property
    def batch(self) -> int:
        """Windows times heads."""
        return self.columns**2 * self.attention.heads

    @property
    def merging(self) -> tuple[Move, ...]:
        """From (windows x heads, S·S, head_dim) to the map's (1, T, C)."""
        n, s, a = self.columns, self.side, self.attention
        return (
            Move("reshape", (n, n, a.heads, s, s, a.head_dim)),
            Move("transpose", (0, 3, 1, 4, 2, 5)),  # (n, S, n, S, heads, head_dim)
            Move("reshape", (1, self.grid**2, a.heads * a.head_dim)),
        )

    def __call__(self, x: str, qkv: CodedLayer, name: str) -> str:
        """From the input of qkv (1, T, I) to mixed values (windows x heads, S·S, head_dim)."""
        if self.attention.grids is None:
            return self._in_float(self.write.product(x, qkv, name))
        return self._in_integers(x, qkv, name)

    def _in_float(self, qkv: str) -> str:
        g, a = self.write.graph, self.attention
        q, k, v = (self.write.moved(part, self._flat, part) for part in self._parts(qkv))
        scaled = g.node(
            "Mul", [q, g.constant(f"{self.name}/scale", a.head_dim**-0.5)], f"{q}/scaled"
        )
        scores = g.node("MatMul", [scaled, g.transpose(k, (0, 2, 1), f"{k}/turned")], self._scores)
        return g.node("MatMul", [self._softmax(scores, q), v], f"{self.name}/mixed")

    def _in_integers(self, x: str, qkv: CodedLayer, name: str) -> str:
        grids, g, a, write = self.attention.grids, self.write.graph, self.attention, self.write
        assert grids is not None
        bounds, turned = signed_codes(grids.bits), (*self._flat, Move("transpose", (0, 2, 1)))
        scale = a.head_dim**-0.5
        if write.paired:
            q, k, v = self._parts(write.product(x, qkv, name))
            keys = write.quantized(k, grids.key, f"{k}/keys", bounds=bounds, moves=turned)
            values = write.quantized(v, grids.value, f"{v}/values", bounds=bounds, moves=self._flat)
        else:
            # the outputs of qkv in units of their codes: one quantizer of scale 1 for all three
            steps = np.array([grids.query, grids.key, grids.value], np.float32)
            units = np.repeat(steps, a.heads * a.head_dim)
            codes = write.product(x, qkv, name, units=units)
            q, k, v = self._parts(write.codes(codes, 1.0, f"{self.name}/codes", bounds=bounds))
            keys = write.values(write.moved(k, turned, k), grids.key * scale, f"{k}/keys")
            values = write.values(write.moved(v, self._flat, v), grids.value, f"{v}/values")
        queries = self._queries(q, f"{self.name}/queries", self._flat)
        scores = g.node("MatMul", [queries, keys], self._scores)
        if write.paired:
            factor = g.constant(f"{self.name}/scale", scale)
            scores = g.node("Mul", [scores, factor], f"{self._scores}/scaled")
        return self._mixed(self._softmax(scores, q), values)

    @property
    def _scores(self) -> str:
        return f"{self.name}/scores"

    @property
    def _flat(self) -> tuple[Move, ...]:
        return (Move("reshape", (self.batch, self.side**2, self.attention.head_dim)),)

    def _queries(self, q: str, name: str, moves: tuple[Move, ...]) -> str:
        """Queries as the first operand of a product, from codes or, where paired, from values."""
        grids = self.attention.grids
        if grids is None:
            return self.write.moved(q, moves, name)
        if not self.write.paired:
            return self.write.operand(q, grids.query, name, moves)
        bounds = signed_codes(grids.bits)
        return self.write.quantized(q, grids.query, name, bounds=bounds, moves=moves)

    def _parts(self, qkv: str) -> list[str]:
        """Queries, keys and values (1, windows x heads, S·S, head_dim) of (1, T, 3 C)."""
        n, s, a = self.columns, self.side, self.attention
        moves = (
            Move("reshape", (n, s, n, s, 3, a.heads, a.head_dim)),
            Move("transpose", (4, 0, 2, 5, 1, 3, 6)),
            Move("reshape", (3, self.batch, s * s, a.head_dim)),
        )
        stacked = self.write.moved(qkv, moves, f"{self.name}/split")
        names = [f"{self.name}/{letter}" for letter in "qkv"]
        return self.write.graph.nodes("Split", [stacked], names, axis=0, num_outputs=3)

    def _mixed(self, share: str, values: str) -> str:
        """Quantized softmax times values."""
        grids, g, write = self.attention.grids, self.write.graph, self.write
        assert grids is not None
        _, highest = unsigned_codes(grids.bits)
        name, step = f"{self.name}/softmax", grids.softmax
        if not write.paired:
            codes = write.codes(share, step, f"{name}/codes", bounds=(0, highest), unsigned=True)
            share = write.values(codes, step, name, unsigned=True)
            return g.node("MatMul", [share, values], f"{self.name}/mixed")
        # signed codes only: 128 steps less, and 128 steps of the sum of all values back
        moved = write.shifted(share, CENTER * step, f"{name}/shifted")
        codes = write.codes(moved, step, f"{name}/codes", bounds=(-CENTER, highest - CENTER))
        mixed = g.node(
            "MatMul", [write.values(codes, step, name), values], f"{self.name}/mixed/centered"
        )
        axes = g.constant(f"{self.name}/v/axes", np.array([1], np.int64))
        total = g.node("ReduceSum", [values, axes], f"{self.name}/v/sum", keepdims=1)
        back = g.constant(f"{self.name}/v/steps", CENTER * step)
        back = g.node("Mul", [total, back], f"{self.name}/v/share")
        return g.node("Add", [mixed, back], f"{self.name}/mixed")

    def _softmax(self, scores: str, q: str) -> str:
        """Softmax of scores plus relative terms; q are codes, or values in floating point."""
        g, s = self.write.graph, self.side
        if self.attention.table is not None:
            quantized = self.attention.grids is not None
            height, width = coded_table(self.attention.table, quantized=quantized)
            shape = (self.batch, s, s, s, s)
            scores = g.reshape(scores, shape, f"{self.name}/scores/map")
            rows = self._relative(q, height, along=1)
            rows = g.reshape(rows, (self.batch, s, s, s, 1), f"{self.name}/rows/map")
            scores = g.node("Add", [scores, rows], f"{self.name}/scores/rows")
            cols = self._relative(q, width, along=2)
            cols = g.reshape(cols, (self.batch, s, s, 1, s), f"{self.name}/columns/map")
            scores = g.node("Add", [scores, cols], f"{self.name}/scores/columns")
            scores = g.reshape(scores, (self.batch, s * s, s * s), f"{self.name}/scores/flat")
        return g.node("Softmax", [scores], f"{self.name}/share", axis=-1)

    def _relative(self, q: str, table: CodedTable, *, along: int) -> str:
        """Queries (b, S·S, d) times the rows of their own coordinate: (b, S, S, S).

        Queries of one coordinate share S rows of the table, so there are S products.
        """
        g, write, s, a = self.write.graph, self.write, self.side, self.attention
        name = "rows" if along == 1 else "columns"
        moves = (
            Move("reshape", (self.batch, s, s, a.head_dim)),
            Move("transpose", (1, 0, 2, 3) if along == 1 else (2, 0, 1, 3)),  # (S, b, S, d)
            Move("reshape", (s, self.batch * s, a.head_dim)),
        )
        name = f"{self.name}/{name}"
        queries = self._queries(q, f"{name}/queries", moves)
        at = np.arange(s)
        pairs = table.values[at[:, None] - at[None] + s - 1]  # (S query, S key, d)
        matrix = g.constant(f"{name}/table", pairs.transpose(0, 2, 1))
        if table.scale is not None:
            matrix = write.values(matrix, table.scale, f"{name}/table/values")
        terms = g.node("MatMul", [queries, matrix], f"{name}/terms")  # (S, b·S, S)
        terms = g.reshape(terms, (s, self.batch, s, s), f"{name}/terms/split")
        back = (1, 0, 2, 3) if along == 1 else (1, 2, 0, 3)
        return g.transpose(terms, back, name)
