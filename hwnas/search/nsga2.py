"""NSGA-II of pymoo, driven by ask and tell, with operators of our own.

Source: Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic algorithm:
NSGA-II", IEEE TEC 2002, as implemented by pymoo 0.6. pymoo does the survival: feasibility first,
then non-dominated sorting and crowding distance. We differ in variation (choice indices, see
`hwnas.search.operators`), in the start (reference designs), and in never proposing an architecture
twice in a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import ConfigError
from hwnas.search.algorithm import Told
from hwnas.search.operators import (
    Fitness,
    Seen,
    blocks_of,
    cross,
    distinct_sample,
    first_population,
    mutate,
    tournament,
)
from hwnas.search.problem import Problem
from hwnas.search.pymoo_quiet import quiet
from hwnas.space import Arch, Archs

__all__ = ["Nsga2"]

IntArray = NDArray[np.intp]
_ROUNDS = 8
_LEAST_POPULATION = 4


class Nsga2:
    """One NSGA-II run; see `Algorithm` for the life cycle."""

    name = "nsga2"

    def __init__(
        self, problem: Problem, *, population: int = 100, seed: int = 0, references: bool = True,
        start: Sequence[Arch] = (),
    ) -> None:  # fmt: skip
        """Set up, without evaluating anything.

        Args:
            problem: what to search.
            population: designs that survive a generation, and designs proposed in one.
            seed: decides everything random.
            references: begin with the space's reference designs.
            start: designs to begin with besides, at most half a population.

        Raises:
            ConfigError: the population is too small.
        """
        if population < _LEAST_POPULATION:
            raise ConfigError(
                f"population={population}; NSGA-II needs at least {_LEAST_POPULATION}"
            )
        self._space = problem.space
        self._references, self._start = references, start
        self._population = population
        self._sizes = self._space.variable_sizes
        self._ordered = self._space.variable_ordered
        self._blocks = blocks_of([variable.name for variable in self._space.variables])
        self._rng = np.random.default_rng(seed)
        self._seen = Seen()
        self._x = np.empty((0, self._space.n_var), dtype=np.int64)  # of the last proposals
        self._parents = np.empty((0, self._space.n_var), dtype=np.int64)
        self._fitness = Fitness(np.empty(0), np.empty(0), np.empty(0))  # of the parents
        self._pymoo = _pymoo_nsga2(problem, population, seed)
        self._started = False

    def ask(self, most: int) -> Archs:
        """Propose a generation."""
        wanted = min(self._population, most)
        if not self._started:
            self._started = True
            archs = first_population(
                self._space, wanted, self._seen, self._rng, references=self._references,
                start=self._start,
            )  # fmt: skip
            self._x = self._space.encode(archs)
            return archs
        return self._offspring(wanted)

    def tell(self, rows: IntArray, told: Told) -> None:
        """Let pymoo choose the survivors of parents and offspring."""
        from pymoo.core.population import Population

        survivors = self._pymoo.pop
        if survivors is not None and len(survivors):
            _describe(survivors, survivors.get("row"), told)  # fitted objectives may have moved
        good = told.ok(rows)
        if not good.any():
            return
        offspring = Population.new(X=self._x[good])
        _describe(offspring, rows[good], told)
        self._pymoo.tell(infills=offspring)
        self._read_survivors()

    def _read_survivors(self) -> None:
        survivors = self._pymoo.pop
        if len(survivors) == 0:
            return
        x, violation, rank, crowding = survivors.get("X", "CV", "rank", "crowding")
        self._parents = x
        self._fitness = Fitness(
            violation[:, 0], rank.astype(np.float64), crowding.astype(np.float64)
        )

    def _offspring(self, wanted: int) -> Archs:
        """Mate until enough new architectures are found; then sample; then give up.

        In a small space nearly searched through, children repeat what was seen: each round mutates
        twice as much as the one before.
        """
        found_x, found = [self._x[:0]], [np.empty((0, len(self._space.genes)), dtype=np.int16)]
        missing = wanted
        for turn in range(_ROUNDS if len(self._parents) else 0):
            x = self._children(missing, rate=2.0**turn)
            archs = self._space.decode(x)
            new = self._seen.new(archs, missing)
            found_x.append(x[new])
            found.append(archs.matrix[new])
            missing -= len(new)
            if missing <= 0:
                break
        rest = distinct_sample(self._space, missing, self._seen, self._rng)
        found_x.append(self._space.encode(rest))
        found.append(rest.matrix)
        self._x = np.concatenate(found_x)
        return Archs(self._space, np.concatenate(found))

    def _children(self, n: int, *, rate: float) -> NDArray[np.int64]:
        pairs = -(-n // 2)
        winners = tournament(self._fitness, 2 * pairs, self._rng)
        parents = self._parents[winners]
        children = np.concatenate(cross(parents[:pairs], parents[pairs:], self._blocks, self._rng))
        mutated = mutate(children, self._sizes, self._ordered, self._rng, rate=rate)
        return self._space.repair(mutated)[:n]


def _describe(population: Any, rows: IntArray, told: Told) -> None:
    """Write f, g and ledger rows into pymoo's individuals.

    The violation is written too: pymoo would add up the same numbers one individual at a time.
    """
    f, g = told.f(rows), told.g(rows)
    violation = np.maximum(g, 0.0).sum(axis=1, keepdims=True)
    population.set("F", f, "G", g, "CV", violation, "row", rows)


def _pymoo_nsga2(problem: Problem, population: int, seed: int) -> Any:
    """Make pymoo's NSGA-II for survival and bookkeeping; it never evaluates, mates or prints."""
    quiet()
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.core.termination import NoTermination
    from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

    shape = PymooProblem(
        n_var=problem.space.n_var,
        n_obj=len(problem.objectives),
        n_ieq_constr=len(problem.limits),
        xl=np.zeros(problem.space.n_var),
        xu=problem.space.variable_sizes - 1,
    )
    algorithm = NSGA2(pop_size=population, survival=RankAndCrowding(), output=None)
    algorithm.setup(shape, seed=seed, termination=NoTermination())
    return algorithm
