"""Binary tournaments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Fitness", "tournament"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fitness:
    """What tournaments compare, each (n,).

    Rank and crowding of infeasible members are NaN and not looked at: those differ in violation,
    or tie.
    """

    violation: FloatArray
    rank: FloatArray
    crowding: FloatArray


def tournament(fitness: Fitness, winners: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the population indexes of `winners` winners of binary tournaments, (winners,).

    The smaller constraint violation wins, then the smaller rank, then the larger crowding distance
    (Deb et al. 2002); ties go either way. Opponents come from shuffles of the whole population, so
    that nobody is invited more often than another.
    """
    n = len(fitness.violation)
    rounds = -(-2 * winners // n)
    invited = np.concatenate([rng.permutation(n) for _ in range(rounds)])[: 2 * winners]
    a, b = invited[:winners], invited[winners:]
    first = rng.random(winners) < 0.5
    for smaller_wins in (-fitness.crowding, fitness.rank, fitness.violation):
        mine, other = smaller_wins[a], smaller_wins[b]
        first = np.where(mine < other, True, np.where(mine > other, False, first))
    return np.where(first, a, b).astype(np.intp)
