"""Integer codes in as few bits as they need, without loss.

Codes of one tensor lie on lowest + step * (0 .. 2^b - 1), step 2 for the odd codes of the centered
2-bit grid. They are stored one after the other, `b` bits each, first code in the lowest bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PackedCodes", "pack_codes"]


@dataclass(frozen=True, eq=False)
class PackedCodes:
    """Codes of `shape`; `data` is uint8."""

    data: NDArray[np.uint8]
    shape: tuple[int, ...]
    bits: int
    lowest: int
    step: int

    def unpack(self) -> NDArray[np.int8]:
        """The codes as int8."""
        count = int(np.prod(self.shape))
        flags = np.unpackbits(self.data, count=count * self.bits, bitorder="little")
        powers = (1 << np.arange(self.bits)).astype(np.int32)
        places = flags.reshape(count, self.bits).astype(np.int32) @ powers
        return (self.lowest + self.step * places).astype(np.int8).reshape(self.shape)


def pack_codes(codes: NDArray[np.int8]) -> PackedCodes:
    """Pack int8 codes of any shape."""
    wide = codes.astype(np.int32).ravel()
    lowest = int(wide.min(initial=0)) if not wide.size else int(wide.min())
    step = 2 if wide.size and not ((wide - lowest) % 2).any() else 1
    places = (wide - lowest) // step
    bits = max(int(places.max(initial=0)).bit_length(), 1)
    flags = (places[:, None] >> np.arange(bits)) & 1
    data = np.packbits(flags.astype(np.uint8), bitorder="little")
    return PackedCodes(data, codes.shape, bits, lowest, step)
