"""Which adapter paths of a layer are active at which bit-width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from hwnas.errors import ConfigError
from hwnas.quant.bits import BITS, FLOAT_BITS

__all__ = ["BASE", "LAYOUTS", "Layout", "path_of"]

BASE = "base"
LAYOUTS = ("shared", "selective", "multiplex")
_PATH_KEYS = ("weight", "min")


def path_of(bits: int) -> str:
    """Name of the path that belongs to one bit-width, such as `b4`."""
    return f"b{bits}"


@dataclass(frozen=True, slots=True)
class Layout:
    """How the bit-widths of a layer share adapters.

    - `shared`: one path, `base`, at every bit-width.
    - `selective`: one path a bit-width and nothing else; floating point takes the path of the
      highest bit-width.
    - `multiplex`: `base` always, plus a path of its own at each bit-width of `n_low` and below.

    Attributes:
        bits: Bit-widths of the search space.
        n_low: Highest bit-width with a path of its own in `multiplex`.
        path_key: Whose bits choose the path: `weight`, or `min` of weight and input.
        detach_base_low: Keep gradients of layers at `n_low` bits and below from the base path
            of `multiplex`; a diagnosis of interference between bit-widths.

    Raises:
        ConfigError: an unknown layout or path key, or bit-widths without a quantizer.
    """

    name: Literal["shared", "selective", "multiplex"] = "multiplex"
    bits: tuple[int, ...] = (2, 3, 4, 8)
    n_low: int = 3
    path_key: Literal["weight", "min"] = "weight"
    detach_base_low: bool = False

    def __post_init__(self) -> None:
        problems = []
        if self.name not in LAYOUTS:
            problems.append(f"layout {self.name!r} is none of {', '.join(LAYOUTS)}")
        if self.path_key not in _PATH_KEYS:
            problems.append(f"path_key {self.path_key!r} is none of {', '.join(_PATH_KEYS)}")
        unknown = sorted(set(self.bits) - set(BITS))
        if unknown or not self.bits:
            problems.append(f"bits {self.bits}: quantizers exist for {', '.join(map(str, BITS))}")
        if self.detach_base_low and self.name != "multiplex":
            problems.append(f"detach_base_low belongs to multiplex, not to {self.name}")
        if problems:
            raise ConfigError("adapters: " + "; ".join(problems))

    @property
    def every_path(self) -> tuple[str, ...]:
        """All paths that a layer has."""
        if self.name == "shared":
            return (BASE,)
        ordered = sorted(self.bits)
        if self.name == "selective":
            return tuple(map(path_of, ordered))
        return BASE, *(path_of(b) for b in ordered if b <= self.n_low)

    def paths(self, w_bits: int, a_bits: int) -> tuple[str, ...]:
        """The paths that add up in a layer of these bits, in merge order.

        Raises ConfigError for a bit-width that the layout was not made for.
        """
        bits = w_bits if self.path_key == "weight" else min(w_bits, a_bits)
        if self.name == "shared":
            return (BASE,)
        if self.name == "multiplex":
            low = bits <= self.n_low
            return (BASE, path_of(self._known(bits))) if low else (BASE,)
        return (path_of(max(self.bits) if bits == FLOAT_BITS else self._known(bits)),)

    def detaches(self, path: str, w_bits: int, a_bits: int) -> bool:
        """Whether gradients stop at a path in a layer of these bits."""
        return self.detach_base_low and path == BASE and len(self.paths(w_bits, a_bits)) > 1

    def _known(self, bits: int) -> int:
        if bits not in self.bits:
            raise ConfigError(
                f"the {self.name} adapters have no path for {bits} bits; they were made for "
                f"{', '.join(map(str, sorted(self.bits)))}; take one of these, or train for it"
            )
        return bits

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"name": self.name, "bits": list(self.bits), "n_low": self.n_low,
                "path_key": self.path_key, "detach_base_low": self.detach_base_low}  # fmt: skip

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """From `to_dict`."""
        return cls(**{**values, "bits": tuple(values["bits"])})
