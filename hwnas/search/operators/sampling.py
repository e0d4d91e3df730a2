"""The first population."""

from __future__ import annotations

import numpy as np

from hwnas.search.operators.duplicates import Seen
from hwnas.space import Archs, SearchSpace

__all__ = ["distinct_sample", "first_population"]

_TRIES = 20


def first_population(
    space: SearchSpace, n: int, seen: Seen, rng: np.random.Generator, *, references: bool = True
) -> Archs:
    """Draw n different architectures, or fewer where the space has no more.

    With `references`, up to half of them are the space's reference designs: largest, smallest,
    uniform bit-widths.
    """
    labelled = space.reference_designs() if references else []
    designs = list(dict.fromkeys(arch for _, arch in labelled))  # one design may have two labels
    start = Archs.of(space, designs[: max(1, n // 2)])
    start = start.take(seen.new(start, n))
    rest = distinct_sample(space, n - len(start), seen, rng)
    return Archs(space, np.concatenate((start.matrix, rest.matrix)))


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
