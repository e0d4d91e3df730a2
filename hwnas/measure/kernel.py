"""What is compiled and timed once, and shared by all networks that contain it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from hwnas.errors import DeviceError

__all__ = ["Kernel"]

_KEY = re.compile(
    r"(?P<kind>[a-z_]+)-(?P<shape>\d+(?:x\d+)*)-(?P<dtype>[a-z0-9]+)-w(?P<w>\d+)a(?P<a>\d+)"
)


@dataclass(frozen=True, slots=True, order=True)
class Kernel:
    """A function on tensors of fixed shapes and widths, the same for every device.

    Attributes:
        kind: What it computes; `hwnas.measure.lowering` lists the kinds and their shapes.
        shape: Sizes, by kind.
        dtype: Arithmetic, a key of a profile's `peak_tops_dense`.
        w_bits: Bits of a weight (or second operand) as it lies in memory.
        a_bits: Bits of an activation as it is multiplied.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    w_bits: int
    a_bits: int

    @property
    def key(self) -> str:
        """The name under which it is cached and stored: `linear-1024x192x576-int8-w4a8`."""
        sizes = "x".join(map(str, self.shape))
        return f"{self.kind}-{sizes}-{self.dtype}-w{self.w_bits}a{self.a_bits}"

    @classmethod
    def from_key(cls, key: str) -> Self:
        """Read `key` back.

        Raises:
            DeviceError: it is no kernel's key.
        """
        found = _KEY.fullmatch(key)
        if found is None:
            raise DeviceError(
                f"{key!r} is no kernel; expected KIND-SIZES-DTYPE-wBITSaBITS, for example "
                "linear-1024x192x576-int8-w4a8"
            )
        shape = tuple(int(n) for n in found["shape"].split("x"))
        return cls(found["kind"], shape, found["dtype"], int(found["w"]), int(found["a"]))
