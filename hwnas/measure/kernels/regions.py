"""Rows of a head, and where an attention's results go."""

from __future__ import annotations

from dataclasses import dataclass

from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels.emit import Buffer, Expr, ir, load, pieces, store
from hwnas.measure.kernels.tile import Tile

__all__ = ["Region", "Rows", "write_rows"]


@dataclass(frozen=True, slots=True)
class Region:
    """Sizes of one head in one region; `side` 0 means no relative positions."""

    queries: int
    keys: int
    dim: int
    side: int = 0

    @classmethod
    def of(cls, kernel: Kernel) -> Region:
        if kernel.kind == "attention":
            _, _, side, dim = kernel.shape
            return cls(side**2, side**2, dim, side)
        _, queries, keys, dim = kernel.shape
        return cls(queries, keys, dim)


@dataclass(frozen=True)
class Rows:
    """Rows of an activation that belong to one head: `at` of the first scalar, and the stride."""

    buffer: Buffer
    at: Expr
    stride: int

    def place(self, row: Expr) -> Expr:
        return self.at + row * self.stride


def write_rows(sums: Tile, dim: int, out: Rows, row: Expr, panel: Expr) -> None:
    """Store a tile of outputs; columns that pad the last panel are left out."""
    t, n = ir(), sums.lanes
    for i in range(sums.rows):
        for p in range(sums.vectors):
            at = out.place(row + i) + (panel + p) * n
            if dim % n == 0:
                store(out.buffer, sums.get(i, p), at, n)
                continue
            with t.If((panel + p) * n + n <= dim):
                with t.Then():
                    store(out.buffer, sums.get(i, p), at, n)
                with t.Else():
                    for start, k in pieces(dim % n, n):
                        store(out.buffer, load(sums.sums, sums.at(i, p) + start, k), at + start, k)
