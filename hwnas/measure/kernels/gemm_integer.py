"""Products of codes: a block of rows is quantized, then multiplied exactly in int32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hwnas.measure.kernels import packing
from hwnas.measure.kernels.cover import cover
from hwnas.measure.kernels.emit import (
    Buffer,
    Expr,
    broadcast,
    constant,
    each,
    ir,
    load,
    store,
    tiles,
    vector,
)
from hwnas.measure.kernels.isa import Isa
from hwnas.measure.kernels.product import Product, copy_patch, each_run, write
from hwnas.measure.kernels.tile import Tile, codes_at, integer_product

__all__ = ["BLOCK_ROWS", "Codes", "IntegerProduct"]

BLOCK_ROWS = 96
_ROWS_TO_UNPACK_AHEAD = 24
_MOST_VECTORS = 8


@dataclass(frozen=True)
class Codes:
    """How numbers become codes; `quantizer` is (1 / scale, offset, highest).

    code = clip(round((x - offset) / scale), 0, highest), as activation quantizers do.
    """

    isa: Isa
    quantizer: Buffer

    def of(self, value: Expr, lanes: int) -> Expr:
        t = ir()
        inverse, offset, highest = (broadcast(self.quantizer[i], lanes) for i in range(3))
        v = t.nearbyint((value - offset) * inverse)
        v = t.Cast(vector("int32", lanes), t.max(t.min(v, highest), constant(0, "float32", lanes)))
        if self.isa.code_offset:
            v = v - constant(self.isa.code_offset, "int32", lanes)
        return t.Cast(vector(self.isa.code_type, lanes), v)

    def run(self, source: Buffer, at: Expr, to: Buffer, target: Expr, size: int) -> None:
        """Quantize `size` neighbors."""
        each(
            self.isa.lanes,
            size,
            lambda i, n: store(to, self.of(load(source, at + i, n), n), target + i, n),
        )


class IntegerProduct:
    """Emits one integer product.

    Args:
        p: Its sizes.
        isa: The vector unit.
        bits: Bits of a packed weight.
        buffers: x, quantizer, weight, scale, shift and y.
    """

    def __init__(self, p: Product, isa: Isa, bits: int, buffers: tuple[Buffer, ...]) -> None:
        self.p, self.isa, self.bits = p, isa, bits
        self.x, quantizer, self.weight, self.scale, self.shift, self.y = buffers
        self.codes_of = Codes(isa, quantizer)
        self.taken, self.parts = packing.group(isa), packing.quads_of_step(bits)
        self.depth = packing.padded(p.depth, self.taken * self.parts)
        self.steps = self.depth // (self.taken * self.parts)
        self.step_bytes = packing.step_bytes(isa, bits)
        self.register_bytes = isa.lanes * self.taken

    def emit(self) -> None:
        """Write the loops."""
        self.map = self._quantized_map() if self.p.padding else None
        block = min(self.p.rows, self.isa.schedule.block or BLOCK_ROWS)
        tiles(self.p.rows, block, self._block, parallel=True)

    def _quantized_map(self) -> Buffer:
        """Quantize a map whose patches overlap, each scalar once."""
        t, p = ir(), self.p
        codes, line = t.alloc_buffer((p.in_elems,), self.isa.code_type), p.in_side * p.channels
        with t.parallel(0, p.in_side) as row:
            self.codes_of.run(self.x, row * line, codes, row * line, line)
        return codes

    def _block(self, first: Expr, rows: int) -> None:
        t = ir()
        self.codes = t.alloc_buffer((rows * self.depth,), self.isa.code_type)
        with t.serial(0, rows) as row:
            self._bring_row(first + row, row * self.depth)
        # A block of many rows unpacks its weights once; a few rows do it in registers.
        ahead = self.bits < 8 and rows > _ROWS_TO_UNPACK_AHEAD
        before: Callable[[Expr, int], None] | None = None
        if ahead:
            self.unpacked = t.alloc_buffer(
                (_MOST_VECTORS * self.steps * self.parts * self.register_bytes,), "int8"
            )
            before = self._unpack_ahead

        def tile(row: Expr, height: int, panel: Expr, vectors: int) -> None:
            sums = Tile.zeros(height, vectors, self.isa.lanes, "int32")
            self._multiply(sums, row, panel, ahead)
            self._write(sums, first + row, panel)

        packed = 0 if ahead or self.bits == 8 else 3 if self.bits == 6 else 1
        cover(self.isa, rows, self.p.panels(self.isa.lanes), tile, before=before, packed=packed)

    def _bring_row(self, row: Expr, to: Expr) -> None:
        """Write the codes of one row, padded with zeros."""
        p, codes = self.p, self.codes
        if self.map is not None:
            zero = self.codes_of.of(constant(0, "float32", 1), 1)
            copy_patch(p, self.isa, self.map, zero, codes, to, row)
        elif p.copies:
            each_run(
                p,
                row,
                lambda at, start, size: self.codes_of.run(self.x, at, codes, to + start, size),
            )
        else:
            self.codes_of.run(self.x, row * p.depth, codes, to, p.depth)
        for i in range(p.depth, self.depth):
            store(codes, constant(0, self.isa.code_type, 1), to + i, 1)

    def _unpack_ahead(self, panel: Expr, vectors: int) -> None:
        with ir().serial(0, self.steps) as step:
            for j in range(vectors):
                for part, codes in enumerate(self._packed(panel + j, step)):
                    at = ((j * self.steps + step) * self.parts + part) * self.register_bytes
                    store(self.unpacked, codes, at, self.register_bytes)

    def _packed(self, panel: Expr, step: Expr) -> list[Expr]:
        at = (panel * self.steps + step) * self.step_bytes
        return packing.unpack(self.isa, self.weight, at, self.bits)

    def _multiply(self, sums: Tile, row: Expr, panel: Expr, ahead: bool) -> None:
        isa, parts = self.isa, 1 if ahead else self.parts
        every = self.steps * self.parts

        def left(i: int, step: Expr, part: int) -> Expr:
            at = (row + i) * self.depth + (step * parts + part) * self.taken
            return codes_at(isa, self.codes, at)

        def right(j: int, step: Expr) -> list[Expr]:
            if not ahead:
                return [packing.widened(isa, v) for v in self._packed(panel + j, step)]
            at = (j * every + step) * self.register_bytes
            return [packing.widened(isa, load(self.unpacked, at, self.register_bytes))]

        integer_product(isa, sums, every if ahead else self.steps, left, right)

    def _write(self, sums: Tile, row: Expr, panel: Expr) -> None:
        t, lanes = ir(), self.isa.lanes
        done = Tile.zeros(sums.rows, sums.vectors, lanes, "float32")
        for j in range(sums.vectors):
            by = t.bind(load(self.scale, (panel + j) * lanes, lanes))
            plus = t.bind(load(self.shift, (panel + j) * lanes, lanes))
            for i in range(sums.rows):
                value = t.Cast(vector("float32", lanes), sums.get(i, j))
                done.put(i, j, value * by + plus)
        write(self.p, done, self.y, row, panel)
