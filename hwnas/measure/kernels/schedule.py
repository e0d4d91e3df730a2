"""What may be chosen of a kernel's code without changing what it computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

__all__ = ["DEFAULT", "Schedule"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Choices of one kernel; None leaves a choice to the kernel's own rule.

    Attributes:
        rows: Rows of a register tile.
        vectors: Vectors of a register tile.
        block: Rows that are brought to cache and multiplied together.
        depth: Depth after which the sums of a float product are put aside, so that this much of
            the weights is used for all rows of a block.
        unroll: Steps of the depth that are written out in a row.
    """

    rows: int | None = None
    vectors: int | None = None
    block: int | None = None
    depth: int | None = None
    unroll: int = 1

    def to_dict(self) -> dict[str, int]:
        """Return the choices that differ from the default."""
        given = asdict(self)
        return {name: value for name, value in given.items() if value != getattr(DEFAULT, name)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Read `to_dict` back; an unknown name or a value that is no whole number raises."""
        if not all(isinstance(v, int) and v > 0 for v in fields.values()):
            raise ValueError(f"schedule {dict(fields)}: expected whole numbers above 0")
        return cls(**fields)


DEFAULT = Schedule()
