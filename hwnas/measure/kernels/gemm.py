"""Products with a weight: linear layers, convolutions as products, transposed convolutions.

The rows of the left side are tokens or pixels; patches of a convolution are copied together first.
Tiles of the output are summed over the whole depth in registers, and left scaled and shifted by
channel: y = sum * scale[n] + shift[n]. For integer kernels that takes in the scales of both sides,
the share of the input's offset, and the bias.

Kernels in floating point multiply float32. Half-precision weights lie in memory as such and are
widened in the register; narrow codes are widened once for a block of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from hwnas.errors import DeviceError
from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels import packing
from hwnas.measure.kernels.cover import Summed, cover, cover_by_depth
from hwnas.measure.kernels.emit import (
    Buffer,
    Expr,
    constant,
    function,
    ir,
    load,
    store,
    tiles,
    vector,
)
from hwnas.measure.kernels.family import Array, Family, Problem
from hwnas.measure.kernels.gemm_integer import BLOCK_ROWS, IntegerProduct
from hwnas.measure.kernels.isa import Isa
from hwnas.measure.kernels.product import Product, copy_patch, write
from hwnas.measure.kernels.tile import Tile, float_product

__all__ = ["CONV", "CONV_TRANSPOSE", "LINEAR", "pack"]

_STORED = {"fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "uint16"}
_MOST_VECTORS = 8


def emit(kernel: Kernel, isa: Isa) -> Any:
    """Write the kernel; arguments are x, the constants of `pack`, and y.

    Raises:
        DeviceError: there is no kernel of its data type.
    """
    p, lanes = Product.of(kernel), isa.lanes
    columns = p.panels(lanes) * lanes
    x, y = ("x", p.in_elems, "float32"), ("y", p.rows * p.columns, "float32")
    scale, shift = (("scale", columns, "float32"), ("shift", columns, "float32"))
    if kernel.dtype == "int8":
        weight = ("weight", packing.packed_bytes(isa, p.depth, columns, kernel.w_bits), "int8")
        return function(
            [x, ("quantizer", 3, "float32"), weight, scale, shift, y],
            lambda *buffers: IntegerProduct(p, isa, kernel.w_bits, buffers).emit(),
        )
    if kernel.dtype not in _STORED:
        raise DeviceError(
            f"{kernel.key}: no processor kernel multiplies {kernel.dtype}; "
            f"known: int8, {', '.join(_STORED)}"
        )
    if _narrow(kernel):
        elems = packing.packed_bytes(_plain(isa), p.depth, columns, kernel.w_bits)
        return function(
            [x, ("weight", elems, "int8"), scale, shift, y],
            lambda x, w, a, b, y: _floating(p, isa, kernel, (x, w, b, y), a),
        )
    return function(
        [x, ("weight", p.depth * columns, _STORED[kernel.dtype]), shift, y],
        lambda *buffers: _floating(p, isa, kernel, buffers, None),
    )


def _narrow(kernel: Kernel) -> bool:
    """Whether a kernel in floating point keeps its weight as codes."""
    return kernel.dtype != "int8" and kernel.w_bits < 16


def _plain(isa: Isa) -> Isa:
    """The same vectors without the dot instruction, whose weights lie one depth after another."""
    return replace(isa, dot="none")


def _floating(
    p: Product, isa: Isa, kernel: Kernel, buffers: tuple[Buffer, ...], scale: Buffer | None
) -> None:
    t, lanes = ir(), isa.lanes
    x, weight, shift, y = buffers

    def block(first: Expr, rows: int) -> None:
        source, base = x, first * p.depth
        if p.copies:
            source, base = t.alloc_buffer((rows * p.depth,), "float32"), 0
            zero = constant(0, "float32", 1)
            with t.serial(0, rows) as row:
                copy_patch(p, isa, x, zero, source, row * p.depth, first + row)
        parts = 1 if scale is None else packing.quads_of_step(kernel.w_bits)
        depth = packing.padded(p.depth, parts)
        ahead = None
        if scale is not None:
            ahead = t.alloc_buffer((_MOST_VECTORS * depth * lanes,), "float32")

        def left(row: Expr, k: Expr) -> Expr:
            return source[base + row * p.depth + k]

        def tile(row: Expr, height: int, panel: Expr, vectors: int) -> None:
            sums = Tile.zeros(height, vectors, lanes, "float32")

            def right(j: int, k: Expr) -> Expr:
                if ahead is not None:
                    return load(ahead, (j * depth + k) * lanes, lanes)
                return _float_at(weight, ((panel + j) * p.depth + k) * lanes, lanes)

            unroll = isa.schedule.unroll
            float_product(sums, p.depth, lambda i, k: left(row + i, k), right, unroll)
            finish(sums, row, panel)

        def finish(sums: Tile, row: Expr, panel: Expr) -> None:
            for j in range(sums.vectors):
                at = (panel + j) * lanes
                bias = t.bind(load(shift, at, lanes))
                by = None if scale is None else t.bind(load(scale, at, lanes))
                for i in range(sums.rows):
                    value = sums.get(i, j) if by is None else sums.get(i, j) * by
                    sums.put(i, j, value + bias)
            write(p, sums, y, first + row, panel)

        def widen(panel: Expr, vectors: int) -> None:
            _widen(_plain(isa), weight, kernel.w_bits, depth, (panel, vectors), ahead)

        if isa.schedule.depth and scale is None:
            size = (rows, p.depth, p.panels(lanes))
            cover_by_depth(isa, size, isa.schedule.depth, _summed(p, isa, weight, left, finish))
            return
        cover(isa, rows, p.panels(lanes), tile, before=widen if scale is not None else None)

    tiles(p.rows, min(p.rows, isa.schedule.block or BLOCK_ROWS), block, parallel=True)


def _summed(
    p: Product,
    isa: Isa,
    weight: Buffer,
    left: Callable[[Expr, Expr], Expr],
    finish: Callable[[Tile, Expr, Expr], None],
) -> Summed:
    """Products of a part of the depth at a time."""
    lanes = isa.lanes

    def multiply(sums: Tile, row: Expr, panel: Expr, start: Expr, steps: int) -> None:
        float_product(
            sums,
            steps,
            lambda i, k: left(row + i, start + k),
            lambda j, k: _float_at(weight, ((panel + j) * p.depth + start + k) * lanes, lanes),
            isa.schedule.unroll,
        )

    return Summed("float32", lambda h, v, _: Tile.zeros(h, v, lanes, "float32"), multiply, finish)


def _float_at(weight: Buffer, at: Expr, lanes: int) -> Expr:
    """Load weights as float32; bfloat16 is the upper half of one."""
    t, value = ir(), load(weight, at, lanes)
    if str(weight.dtype) != "uint16":
        return t.Cast(vector("float32", lanes), value)
    bits = t.Cast(vector("uint32", lanes), value) << constant(16, "uint32", lanes)
    return t.reinterpret(vector("float32", lanes), bits)


def _widen(
    isa: Isa, weight: Buffer, bits: int, depth: int, panels: tuple[Expr, int], to: Buffer
) -> None:
    """Unpack the codes of a group of panels to float32."""
    t, lanes = ir(), isa.lanes
    parts, size = packing.quads_of_step(bits), packing.step_bytes(isa, bits)
    first, count = panels
    with t.serial(0, depth // parts) as step:
        for j in range(count):
            at = ((first + j) * (depth // parts) + step) * size
            for part, codes in enumerate(packing.unpack(isa, weight, at, bits)):
                value = t.Cast(vector("float32", lanes), codes)
                store(to, value, (j * depth + step * parts + part) * lanes, lanes)


def pack(
    kernel: Kernel, isa: Isa, weight: Array, bias: Array, *, weight_scale: Array | None = None,
    scale: float = 1.0, offset: float = 0.0, highest: int = 255,
) -> tuple[Array, ...]:  # fmt: skip
    """Return a kernel's constants for a weight (depth, columns) and a bias (columns,).

    The depth of a convolution is (row, column, channel) of its patch, the columns of a transposed
    one (row, column, channel) of the square. A kernel with a narrow weight takes signed codes with
    `weight_scale` (columns,), and an integer one the quantizer of its input:
    x = scale * code + offset, codes from 0 to `highest`.
    """
    p = Product.of(kernel)
    wide = _padded_to_panels(p, isa, weight)
    shift = np.asarray(bias, np.float64)
    if weight_scale is None:
        stored = _STORED[kernel.dtype]
        if stored == "uint16":
            packed = _bfloat16(packing.pack_floats(isa, wide))
        else:
            packed = packing.pack_floats(isa, wide, stored)
        return packed, _padded_to_panels(p, isa, shift).astype(np.float32)
    codes = wide.astype(np.int64)
    by = np.asarray(weight_scale, np.float64)
    factor = packing.code_factor(kernel.w_bits)
    if _narrow(kernel):
        packed = packing.pack_codes(_plain(isa), codes, kernel.w_bits)
        vectors = (by / factor, shift)
    else:
        # Codes are stored less `code_offset`, so that much of each channel's sum is put back.
        by = scale * by
        shift = shift + by * (offset / scale + isa.code_offset) * weight.astype(np.int64).sum(0)
        packed = packing.pack_codes(isa, codes, kernel.w_bits)
        vectors = (by / factor, shift)
    ends = tuple(_padded_to_panels(p, isa, v).astype(np.float32) for v in vectors)
    if _narrow(kernel):
        return packed, *ends
    return np.array([1 / scale, offset, highest], np.float32), packed, *ends


def _padded_to_panels(p: Product, isa: Isa, values: Array) -> Array:
    """Pad the channels of each cell with zeros to whole panels; channels are the last axis."""
    wide = p.panels_of_cell(isa.lanes) * isa.lanes
    cells = values.reshape(*values.shape[:-1], p.cells, p.c_out)
    padding = [(0, 0)] * (cells.ndim - 1) + [(0, wide - p.c_out)]
    return np.pad(cells, padding).reshape(*values.shape[:-1], -1)


def _bfloat16(values: Array) -> Array:
    """Round float32 to the nearest bfloat16, ties to even, as its 16 bits."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def stored_weight(kernel: Kernel, weight: Array) -> Array:
    """Round a float weight to what the kernel keeps."""
    if kernel.dtype == "fp16":
        return weight.astype(np.float16).astype(np.float32)
    if kernel.dtype == "bf16":
        return (_bfloat16(weight).astype(np.uint32) << 16).view(np.float32)
    return weight


def problem(kernel: Kernel, isa: Isa, rng: np.random.Generator) -> Problem:
    """Draw normal inputs and weights; integer ones are checked on their own codes, exactly."""
    p = Product.of(kernel)
    x = rng.standard_normal(p.in_elems, np.float32)
    bias = np.tile(rng.standard_normal(p.c_out, np.float32), p.cells)
    elems = p.rows * p.columns
    if kernel.dtype != "int8" and not _narrow(kernel):
        weight = stored_weight(kernel, rng.standard_normal((p.depth, p.columns), np.float32))
        constants = pack(kernel, isa, weight, bias)
        return Problem((x,), constants, elems, lambda: _reference(p, x, weight, bias))
    top = 1 << (kernel.w_bits - 1)
    codes = rng.integers(-top, top, (p.depth, p.columns))
    weight_scale = rng.uniform(0.5, 1.5, p.columns) / (top * p.depth**0.5)
    scale, offset = float(np.float32(6 / 255)), -3.0
    constants = pack(
        kernel, isa, codes, bias, weight_scale=weight_scale, scale=scale, offset=offset
    )

    def rounded(values: Array) -> Array:
        if _narrow(kernel):
            return values
        u = np.rint((values - np.float32(offset)) * np.float32(1 / scale))
        return np.asarray(np.clip(u, 0, 255).astype(np.float64) * scale + offset)

    def expected() -> Array:
        # zeros around a map stand for themselves, so they are rounded as well
        around = float(rounded(np.zeros(1, np.float32))[0])
        return _reference(p, rounded(x), codes * weight_scale, bias, around)

    return Problem((x,), constants, elems, expected)


def _reference(p: Product, x: Array, weight: Array, bias: Array, around: float = 0.0) -> Array:
    """Compute the product in float64 with torch."""
    import torch
    from torch.nn import functional

    w, b = (torch.from_numpy(np.asarray(v, np.float64)) for v in (weight, bias))
    rows = torch.from_numpy(np.asarray(x, np.float64))
    if not p.side:
        return np.asarray((rows.view(p.rows, p.depth) @ w + b).numpy()).ravel()
    if p.spread > 1:
        maps = rows.view(p.side, p.side, p.depth).permute(2, 0, 1)[None]
        # (c_in, square, square, c_out) to torch's (c_in, c_out, square, square)
        w = w.view(p.depth, p.spread, p.spread, -1).permute(0, 3, 1, 2)
        y = functional.conv_transpose2d(maps, w, b[: p.c_out], stride=p.spread)
    else:
        maps = rows.view(p.in_side, p.in_side, p.channels).permute(2, 0, 1)[None]
        w = w.view(p.patch, p.patch, p.channels, p.columns).permute(3, 2, 0, 1)
        after = max(p.patch - p.stride - p.padding, 0) if p.padding else 0
        maps = functional.pad(maps, (p.padding, after, p.padding, after), value=around)
        y = functional.conv2d(maps, w, b, stride=p.stride)
    return np.asarray(y[0].permute(1, 2, 0).numpy()).ravel()


LINEAR = CONV = CONV_TRANSPOSE = Family(emit, problem)
