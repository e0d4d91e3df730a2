"""How weights lie in memory for the kernels: panels of one vector of output channels.

A panel holds `lanes` output channels. Within a panel, depth runs slowest: float panels are
(depth, lanes); integer panels are (steps, bytes of a step), a step being what one load of packed
bytes unpacks to. Codes below 8 bits lie in the top bits of a byte once unpacked, which keeps their
sign and multiplies them by a power of two (`code_factor`); the scale in the epilogue takes it back.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hwnas.measure.kernels.emit import Buffer, Expr, constant, ir, load, vector
from hwnas.measure.kernels.isa import Isa

__all__ = [
    "WIDTHS",
    "code_factor",
    "group",
    "pack_codes",
    "pack_floats",
    "packed_bytes",
    "padded",
    "quads_of_step",
    "step_bytes",
    "unpack",
    "widened",
]

Array = np.ndarray[Any, Any]
WIDTHS = (2, 4, 6, 8)
"""Bits of a weight that the kernels unpack."""


def padded(size: int, multiple: int) -> int:
    """Round up to a multiple."""
    return -(-size // multiple) * multiple


def group(isa: Isa) -> int:
    """Depth that one multiply-add takes in: four bytes, or one without a dot instruction."""
    return 1 if isa.dot == "none" else 4


def quads_of_step(bits: int) -> int:
    """Multiply-adds that one step's bytes unpack to."""
    return {8: 1, 6: 4, 4: 2, 2: 4}[bits]


def code_factor(bits: int) -> int:
    """What an unpacked code is multiplied by."""
    return 1 << (8 - bits)


def step_depth(isa: Isa, bits: int) -> int:
    """Depth of one step; the depth of a kernel is padded to a multiple of it."""
    return group(isa) * quads_of_step(bits)


def step_bytes(isa: Isa, bits: int) -> int:
    """Bytes of one step of one panel."""
    return isa.lanes * step_depth(isa, bits) * bits // 8


def packed_bytes(isa: Isa, depth: int, columns: int, bits: int) -> int:
    """Bytes of a whole packed weight."""
    panels, steps = -(-columns // isa.lanes), -(-depth // step_depth(isa, bits))
    return panels * steps * step_bytes(isa, bits)


def pack_floats(isa: Isa, weight: Array, dtype: str = "float32") -> Array:
    """Lay a weight (depth, columns) out as (panels, depth, lanes), columns padded with zeros."""
    depth, columns = weight.shape
    wide = np.zeros((depth, padded(columns, isa.lanes)), dtype)
    wide[:, :columns] = weight
    return np.ascontiguousarray(wide.reshape(depth, -1, isa.lanes).transpose(1, 0, 2)).ravel()


def pack_codes(isa: Isa, codes: Array, bits: int) -> Array:
    """Pack signed codes (depth, columns), -2^(bits-1) to 2^(bits-1) - 1, padded with zeros."""
    depth, columns = codes.shape
    taken, parts = group(isa), quads_of_step(bits)
    wide = np.zeros((padded(depth, taken * parts), padded(columns, isa.lanes)), np.int16)
    wide[:depth, :columns] = codes
    steps = wide.reshape(-1, parts, taken, wide.shape[1] // isa.lanes, isa.lanes)
    low = (steps.transpose(3, 0, 1, 4, 2) & ((1 << bits) - 1)).astype(np.uint8)
    # (panels, steps, parts, lanes, taken): parts share a byte
    packed: Array
    if bits == 8:
        packed = low
    elif bits == 4:
        packed = low[:, :, 0] | low[:, :, 1] << 4
    elif bits == 2:
        packed = low[:, :, 0] | low[:, :, 1] << 2 | low[:, :, 2] << 4 | low[:, :, 3] << 6
    else:
        top, rest = low >> 2, low & 3
        nibbles = [top[:, :, i] | top[:, :, i + 1] << 4 for i in (0, 2)]
        pairs = rest[:, :, 0] | rest[:, :, 1] << 2 | rest[:, :, 2] << 4 | rest[:, :, 3] << 6
        packed = np.stack([*nibbles, pairs], 2)
    return np.ascontiguousarray(packed).ravel().view(np.int8)


def unpack(isa: Isa, packed: Buffer, at: Expr, bits: int) -> list[Expr]:
    """Load one step of a panel and return its registers of signed bytes."""
    t = ir()
    lanes = isa.lanes * group(isa)
    whole = [load(packed, at + i * lanes, lanes) for i in range(3 if bits == 6 else 1)]
    if bits == 8:
        return [whole[0]]
    words = [t.bind(t.reinterpret(vector("int32", lanes // 4), v)) for v in whole]

    def masked(word: Expr, left: int, mask: int) -> Expr:
        by = constant(abs(left), "int32", lanes // 4)
        moved = word if not left else word << by if left > 0 else word >> by
        return moved & constant(_four_times(mask), "int32", lanes // 4)

    if bits == 4:
        found = [masked(words[0], 4, 0xF0), masked(words[0], 0, 0xF0)]
    elif bits == 2:
        found = [masked(words[0], 6 - 2 * i, 0xC0) for i in range(4)]
    else:
        found = [
            masked(words[i // 2], 4 * (1 - i % 2), 0xF0) | masked(words[2], 2 - 2 * i, 0x0C)
            for i in range(4)
        ]
    return [t.reinterpret(f"int8x{lanes}", v) for v in found]


def widened(isa: Isa, codes: Expr) -> Expr:
    """Make bytes what the multiply-add takes: int32 where there is no dot instruction."""
    return ir().Cast(f"int32x{isa.lanes}", codes) if isa.dot == "none" else codes


def _four_times(byte: int) -> int:
    return int.from_bytes(bytes([byte] * 4), "little", signed=True)
