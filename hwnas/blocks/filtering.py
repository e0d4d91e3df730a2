"""Which blocks of a library are worth having on one device.

DONNAv2 removes blocks of high inference cost before the search; its rule is not published in
what could be read, so the rule is ours: within a slot go the blocks that are slower than the
teacher's own, and those that another block beats in both loss and time. A filter belongs to its
device: another one multiplies other bits fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hwnas.errors import CostError

__all__ = ["Candidate", "Dropped", "Filtered", "counts", "filter_blocks"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A block of a slot with its loss (noise-to-signal ratio) and its time (ms)."""

    block: str
    loss: float
    ms: float


@dataclass(frozen=True, slots=True)
class Dropped:
    """A block that was dropped, and why.

    `reason` is `slow` (slower than the teacher's slot) or `beaten` (by the block `by`).
    """

    block: str
    loss: float
    ms: float
    reason: Literal["slow", "beaten"]
    by: str

    @property
    def sentence(self) -> str:
        """The reason in words, without units."""
        if self.reason == "slow":
            return f"slower than {self.by}, the teacher's own"
        return f"no better than {self.by}, which is no slower"


@dataclass(frozen=True, slots=True)
class Filtered:
    """What is left of one slot, from fast to slow, and what was dropped."""

    kept: tuple[Candidate, ...]
    dropped: tuple[Dropped, ...]


def filter_blocks(
    candidates: Sequence[Candidate], teacher: str, *, slowest: float = 1.0, tolerance: float = 0.01
) -> Filtered:
    """Filter the blocks of one slot.

    Walks from the fastest to the slowest (the better first among equals). Dropped are blocks that
    take more than `slowest` times the teacher's time, and blocks whose loss is not below
    (1 - `tolerance`) times that of a faster one that was kept: a slower block must be better by
    more than that. The teacher's block stays, whatever it costs.

    Raises:
        CostError: the teacher's block is not among the candidates, or an argument is impossible.
    """
    own = next((c for c in candidates if c.block == teacher), None)
    if own is None:
        raise CostError(f"no block {teacher} among {len(candidates)} candidates of a slot")
    if slowest <= 0 or not 0 <= tolerance < 1:
        raise CostError(
            f"slowest={slowest}, tolerance={tolerance}; expected above 0, and 0 to below 1"
        )
    kept: list[Candidate] = []
    dropped: list[Dropped] = []
    for found in sorted(candidates, key=lambda c: (c.ms, c.loss, c.block)):
        best = min(kept, key=lambda c: c.loss, default=None)
        if found.block == teacher:
            kept.append(found)
        elif found.ms > slowest * own.ms:
            dropped.append(Dropped(found.block, found.loss, found.ms, "slow", teacher))
        elif best is not None and found.loss >= (1 - tolerance) * best.loss:
            dropped.append(Dropped(found.block, found.loss, found.ms, "beaten", best.block))
        else:
            kept.append(found)
    return Filtered(tuple(kept), tuple(dropped))


def counts(filtered: Mapping[int, Filtered]) -> dict[tuple[str, str], int]:
    """How many blocks were dropped over all slots, by their bits and the reason."""
    found: dict[tuple[str, str], int] = {}
    for of_slot in filtered.values():
        for drop in of_slot.dropped:
            key = drop.block.rpartition("-")[2], drop.reason
            found[key] = found.get(key, 0) + 1
    return found
