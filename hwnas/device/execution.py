"""How a pair of bit-widths runs on a device: natively, or as something wider.

The rule: a pair that the profile lists runs as listed. Any other runs as the smallest native pair
that covers both operands, its weights stored at the narrowest width that the runtime unpacks on the
fly, else at the width of the arithmetic. Where no native pair covers it, the profile's fallback
data type does, and a floating-point one does so even where it is narrower: a unit without fp32 runs
float layers as fp16. Without a fallback the device cannot run the pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hwnas.errors import DeviceError

if TYPE_CHECKING:
    from hwnas.device.fields import DeviceSpec, Pair

__all__ = ["OPERAND_BITS", "Execution", "execution_of", "is_native"]

OPERAND_BITS: Final[dict[str, tuple[int, int]]] = {
    "fp32": (32, 32),
    "tf32": (32, 32),
    "fp16": (16, 16),
    "bf16": (16, 16),
    "fp8": (8, 8),
    "int8x16": (8, 16),
    "int8": (8, 8),
    "int4": (4, 4),
}
"""Bits of (weight, activation) that each data type multiplies; the keys of `peak_tops_dense`."""


@dataclass(frozen=True, slots=True)
class Execution:
    """What a device does with one (w_bits, a_bits) pair.

    Attributes:
        dtype: Data type of the arithmetic, a key of `peak_tops_dense`.
        w_bits_in_memory: Bits that a weight occupies and moves.
        a_bits_in_memory: Bits that an activation occupies and moves.
        native: The arithmetic is exactly as wide as asked, nothing is emulated.
    """

    dtype: str
    w_bits_in_memory: int
    a_bits_in_memory: int
    native: bool


def is_native(pair: Pair) -> bool:
    """Tell whether a listed pair is as wide as its data type."""
    return OPERAND_BITS[pair.runs_as] == (pair.w, pair.a)


def execution_of(spec: DeviceSpec, w_bits: int, a_bits: int) -> Execution:
    """Apply the rule of this module.

    Raises:
        DeviceError: nothing on the device is wide enough.
    """
    for pair in spec.pairs:
        if (pair.w, pair.a) == (w_bits, a_bits):
            return _as_listed(pair, spec.packed_weight_bits)
    covering = [p for p in spec.pairs if is_native(p) and p.w >= w_bits and p.a >= a_bits]
    if covering:
        dtype = min(covering, key=lambda p: (p.w * p.a, p.w + p.a)).runs_as
        return _emulated(dtype, w_bits, spec.packed_weight_bits)
    if spec.fallback is None or not _covers(spec.fallback, w_bits, a_bits):
        listed = ", ".join(f"w{p.w}a{p.a}" for p in spec.pairs)
        raise DeviceError(
            f"{spec.id} cannot run w{w_bits}a{a_bits}: it lists {listed} and "
            f"{'no fallback' if spec.fallback is None else 'the fallback ' + spec.fallback}; "
            "choose narrower bits, or add a fallback to its profile"
        )
    return _emulated(spec.fallback, w_bits, spec.packed_weight_bits)


def _covers(dtype: str, w_bits: int, a_bits: int) -> bool:
    w_full, a_full = OPERAND_BITS[dtype]
    return not dtype.startswith("int") or (w_full >= w_bits and a_full >= a_bits)


def _as_listed(pair: Pair, packed: Sequence[int]) -> Execution:
    native = is_native(pair)
    emulated = _emulated(pair.runs_as, pair.w, packed)
    in_memory = pair.weight_bits_in_memory or emulated.w_bits_in_memory
    return Execution(pair.runs_as, in_memory, emulated.a_bits_in_memory, native)


def _emulated(dtype: str, w_bits: int, packed: Sequence[int]) -> Execution:
    w_full, a_full = OPERAND_BITS[dtype]
    in_memory = min((bits for bits in packed if w_bits <= bits <= w_full), default=w_full)
    return Execution(dtype, in_memory, a_full, native=False)
