"""Variation and selection on choice indices `x`, shape (n, n_var), one operator a file.

Operators take arrays and a generator and return new arrays; none keeps state.
"""

from hwnas.search.operators.crossover import blocks_of, cross
from hwnas.search.operators.duplicates import Seen
from hwnas.search.operators.mutation import mutate
from hwnas.search.operators.sampling import distinct_sample, first_population
from hwnas.search.operators.selection import Fitness, tournament

__all__ = [
    "Fitness",
    "Seen",
    "blocks_of",
    "cross",
    "distinct_sample",
    "first_population",
    "mutate",
    "tournament",
]
