"""The three searches, as functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hwnas.records import RunFolder
from hwnas.search.executor import Executor
from hwnas.search.loop import OnGeneration, Run
from hwnas.search.problem import Problem
from hwnas.search.result import SearchResult
from hwnas.space import Arch

__all__ = ["run_exhaustive", "run_nsga2", "run_random"]


def run_nsga2(  # noqa: PLR0913 - what every search takes, and what NSGA-II alone does
    problem: Problem,
    *,
    population: int = 100,
    max_evaluations: int,
    seed: int,
    start: Sequence[Arch] = (),
    executor: Executor | None = None,
    on_generation: OnGeneration | None = None,
    folder: RunFolder | None = None,
    reference_point: Mapping[str, float] | None = None,
) -> SearchResult:
    """Search with NSGA-II; see `hwnas.search.nsga2` for how it differs from the paper.

    Args:
        problem: space, objectives, limits.
        population: designs a generation, evaluated as one batch.
        max_evaluations: different designs to evaluate, failures included.
        seed: decides everything random; the same seed gives the same front with any executor.
        start: designs to begin with, such as those of `run_exact`; at most half a population, of
            more those evenly spaced in their order.
        executor: where cost models run; this process by default.
        on_generation: called after each generation.
        folder: an open run folder; what it holds is not evaluated again: so a run resumes.
        reference_point: natural values by objective; by default from the first generation.

    Raises:
        InfeasibleError: no design keeps the limits; names the best value seen for each.
        CostError: too many designs failed.
        ConfigError: the arguments do not fit together.
        RunError: the run folder cannot be written.
        Interrupted: Ctrl-C; what was evaluated is saved.
    """
    from hwnas.search.nsga2 import Nsga2

    algorithm = Nsga2(problem, population=population, seed=seed, start=start)
    run = Run(
        problem,
        algorithm,
        max_evaluations=max_evaluations,
        executor=executor,
        folder=folder,
        on_generation=on_generation,
        reference_point=reference_point,
    )
    return run.result()


def run_random(
    problem: Problem,
    *,
    batch: int = 100,
    max_evaluations: int,
    seed: int,
    executor: Executor | None = None,
    on_generation: OnGeneration | None = None,
    folder: RunFolder | None = None,
    reference_point: Mapping[str, float] | None = None,
) -> SearchResult:
    """Draw designs at random, none twice; arguments and errors as for `run_nsga2`."""
    from hwnas.search.random_search import RandomSearch

    run = Run(
        problem,
        RandomSearch(problem, batch=batch, seed=seed),
        max_evaluations=max_evaluations,
        executor=executor,
        folder=folder,
        on_generation=on_generation,
        reference_point=reference_point,
    )
    return run.result()


def run_exhaustive(
    problem: Problem,
    *,
    limit: int = 1_000_000,
    batch: int = 4096,
    executor: Executor | None = None,
    on_generation: OnGeneration | None = None,
    folder: RunFolder | None = None,
    reference_point: Mapping[str, float] | None = None,
) -> SearchResult:
    """Evaluate every design of a space of at most `limit`; the rest as for `run_nsga2`.

    Raises:
        SpaceError: the space is larger.
    """
    from hwnas.search.exhaustive import ExhaustiveSearch

    run = Run(
        problem,
        ExhaustiveSearch(problem, batch=batch, limit=limit),
        max_evaluations=limit,
        executor=executor,
        folder=folder,
        on_generation=on_generation,
        reference_point=reference_point,
    )
    return run.result()
