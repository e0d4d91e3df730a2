"""The first population."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hwnas.search.operators.duplicates import Seen
from hwnas.space import Arch, Archs, SearchSpace

__all__ = ["distinct_sample", "first_population"]

_TRIES = 20


def first_population(
    space: SearchSpace, n: int, seen: Seen, rng: np.random.Generator, *, references: bool = True,
    start: Sequence[Arch] = (),
) -> Archs:  # fmt: skip
    """Draw n different architectures, or fewer where the space has no more.

    With `references`, up to half of them are the space's reference designs: largest, smallest,
    uniform bit-widths. `start` are designs that come before these, at most half of n: of more,
    those that are evenly spaced in their order, both ends included.

    Raises:
        ArchError: a design of `start` does not belong to the space.
    """
    given = [start[row] for row in _even_rows(len(start), max(1, n // 2))]
    labelled = space.reference_designs() if references else []
    designs = list(dict.fromkeys(arch for _, arch in labelled))  # one design may have two labels
    first = Archs.of(space, [*given, *designs[: max(1, (n - len(given)) // 2)]])
    first = first.take(seen.new(first, n))
    rest = distinct_sample(space, n - len(first), seen, rng)
    return Archs(space, np.concatenate((first.matrix, rest.matrix)))


def _even_rows(n: int, most: int) -> list[int]:
    """At most so many of n rows, evenly spaced."""
    if n <= most:
        return list(range(n))
    rows: list[int] = np.unique(np.linspace(0, n - 1, most).round().astype(int)).tolist()
    return rows


def distinct_sample(space: SearchSpace, n: int, seen: Seen, rng: np.random.Generator) -> Archs:
    """Draw n architectures that were not seen before, or fewer after 20 rounds of drawing."""
    found = [np.empty((0, len(space.genes)), dtype=np.int16)]
    missing = n
    for _ in range(_TRIES):
        if missing <= 0:
            break
        drawn = space.sample(rng, max(missing, 16))
        found.append(drawn.matrix[seen.new(drawn, missing)])
        missing -= len(found[-1])
    return Archs(space, np.concatenate(found))
