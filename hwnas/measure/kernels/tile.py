"""Register tiles: a few rows by a few vectors of sums, held in registers over the whole depth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hwnas.measure.kernels.emit import Buffer, Expr, broadcast, constant, ir, load, store
from hwnas.measure.kernels.isa import Isa

__all__ = [
    "Tile",
    "codes_at",
    "float_product",
    "integer_product",
    "multiply_add",
    "tile_shape",
]


@dataclass(frozen=True, slots=True)
class Tile:
    """Sums of `rows` x `vectors` registers in a local buffer, which LLVM keeps in registers."""

    sums: Buffer
    rows: int
    vectors: int
    lanes: int

    @classmethod
    def empty(cls, rows: int, vectors: int, lanes: int, dtype: str) -> Tile:
        return cls(_local(rows * vectors * lanes, dtype), rows, vectors, lanes)

    @classmethod
    def zeros(cls, rows: int, vectors: int, lanes: int, dtype: str) -> Tile:
        tile = cls.empty(rows, vectors, lanes, dtype)
        for i in range(rows):
            for j in range(vectors):
                tile.put(i, j, constant(0, dtype, lanes))
        return tile

    def at(self, row: int, vector: int) -> int:
        return (row * self.vectors + vector) * self.lanes

    def get(self, row: int, vector: int) -> Expr:
        return load(self.sums, self.at(row, vector), self.lanes)

    def put(self, row: int, vector: int, value: Expr) -> None:
        store(self.sums, value, self.at(row, vector), self.lanes)


def tile_shape(isa: Isa, rows: int, panels: int, packed: int = 0) -> tuple[int, int]:
    """Choose (rows, vectors) of a tile so that sums, one row of vectors and a scalar fit.

    `packed` registers more a vector hold bytes that are yet to be unpacked.

    Wide tiles load a weight for many rows; among the fitting ones the least padding wins. A
    schedule may choose otherwise.
    """
    chosen = isa.schedule
    if chosen.rows and chosen.vectors:
        return min(rows, chosen.rows), min(panels, chosen.vectors)
    if rows < 4:
        return rows, min(panels, max(1, (isa.registers - 4) // (rows + 1 + packed)), 8)
    best, cost = (1, 1), float("inf")
    for vectors in range(1, min(panels, 6) + 1):
        for height in range(1, min(rows, 14) + 1):
            if height * vectors + vectors * (1 + packed) + 1 > isa.registers:
                continue
            loads = (height + vectors) / (height * vectors)
            waste = -(-panels // vectors) * vectors / panels * -(-rows // height) * height / rows
            if loads + waste < cost:
                best, cost = (height, vectors), loads + waste
    return best


def float_product(
    tile: Tile,
    depth: int,
    left: Callable[[int, Expr], Expr],
    right: Callable[[int, Expr], Expr],
    unroll: int = 1,
) -> None:
    """sums[i, j] += sum over k of left(i, k), a scalar, times right(j, k), a float32 vector."""
    t = ir()

    def step(k: Expr) -> None:
        columns = [t.bind(right(j, k)) for j in range(tile.vectors)]
        for i in range(tile.rows):
            scalar = t.bind(broadcast(left(i, k), tile.lanes))
            for j, column in enumerate(columns):
                tile.put(i, j, tile.get(i, j) + scalar * column)

    _steps(depth, unroll, step)


def integer_product(
    isa: Isa,
    tile: Tile,
    steps: int,
    left: Callable[[int, Expr, int], Expr],
    right: Callable[[int, Expr], list[Expr]],
) -> None:
    """sums[i, j] += products of codes, exact in int32.

    `left(i, step, part)` is a register of activation codes, the same in every lane, and
    `right(j, step)` the registers of weights that are unpacked from one step's bytes.
    """
    t = ir()

    def one(step: Expr) -> None:
        packed = [right(j, step) for j in range(tile.vectors)]
        for part in range(len(packed[0])):
            columns = [t.bind(weights[part]) for weights in packed]
            for i in range(tile.rows):
                codes = t.bind(left(i, step, part))
                for j, column in enumerate(columns):
                    tile.put(i, j, multiply_add(isa, tile.get(i, j), codes, column))

    _steps(steps, isa.schedule.unroll, one)


def _steps(count: int, unroll: int, step: Callable[[Expr], None]) -> None:
    """Run `step` so often, `unroll` of them written out in a row; the rest follows."""
    t = ir()
    if unroll == 1:
        with t.serial(0, count) as k:
            step(k)
        return
    whole = count // unroll
    if whole:
        with t.serial(0, whole) as index:
            for i in range(unroll):
                step(index * unroll + i)
    for k in range(whole * unroll, count):
        step(k)


def multiply_add(isa: Isa, sums: Expr, codes: Expr, weights: Expr) -> Expr:
    """One integer dot instruction of the vector unit, or a plain multiplication."""
    t = ir()
    if isa.dot == "none":
        return sums + codes * weights
    width = {16: "512", 8: "256", 4: "128"}[isa.lanes]
    name = (
        f"llvm.x86.avx512.vpdpbusd.{width}"
        if isa.dot == "vpdpbusd"
        else "llvm.aarch64.neon.sdot.v4i32.v16i8"
    )
    return t.call_llvm_pure_intrin(
        f"int32x{isa.lanes}", t.llvm_lookup_intrinsic_id(name), sums, codes, weights
    )


def codes_at(isa: Isa, buffer: Buffer, at: Expr) -> Expr:
    """Activation codes at `at` (four, or one without a dot instruction) in every lane."""
    t = ir()
    if isa.dot == "none":
        return broadcast(t.Cast("int32", buffer[at]), isa.lanes)
    four = t.reinterpret("int32", load(buffer, at, 4))
    return t.reinterpret(f"int8x{4 * isa.lanes}", broadcast(four, isa.lanes))


def _local(size: int, dtype: str) -> Buffer:
    return ir().alloc_buffer((size,), dtype, scope="local")
