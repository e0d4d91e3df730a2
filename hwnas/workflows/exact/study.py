"""NSGA-II from a cold start and from exact designs, against exact optima at some budgets.

Source: the project's specification of cost models, section 9.3, for the program. With n budgets to
judge at, 2 n + 1 are spread over the exact front. There are three starts: cold; seeded with the
exact designs at all of them, which can only end at the optimum; and seeded with those at every
second one, both ends included, which is judged between: by what it was not given.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.config import SearchConfig
from hwnas.errors import ConfigError, InfeasibleError
from hwnas.search import ExactResult, ExactSearch, ParetoFront, run_nsga2
from hwnas.space import Archs
from hwnas.workflows.exact.start import exact_search
from hwnas.workflows.exact.truth import ExactBudget, Truth
from hwnas.workflows.preflight import check_weights_and_data
from hwnas.workflows.resolve import Resolved, evaluations_of, resolve
from hwnas.workflows.watch import Silent, Watch

__all__ = ["BETWEEN", "COLD", "SEEDED", "ExactStudy", "study_exact"]

COLD, BETWEEN, SEEDED = "cold", "between", "seeded"


@dataclass(frozen=True)
class ExactStudy:
    """What a study found.

    Attributes:
        space: Name of the space.
        objective: Name and unit of what is optimized.
        budget: Name and unit of what is bounded.
        settings: Evaluations, population, seeds, designs given by start, limits.
        rows: One a budget, from the smallest.
        hypervolume: Of each search over that of the exact designs, by start and seed.
        seconds: Of the exact designs, and of one search of each kind.
        combinations: Of the variables that were gone through one after the other.
    """

    space: str
    objective: tuple[str, str]
    budget: tuple[str, str]
    settings: Mapping[str, Any]
    rows: tuple[ExactBudget, ...]
    hypervolume: Mapping[str, tuple[float, ...]]
    seconds: Mapping[str, float]
    combinations: int

    def worst(self, start: str) -> float | None:
        """The largest share of the optimum, in per cent; None where it is not known everywhere."""
        shares = [share for row in self.rows for share in row.found[start].percent]
        known = [share for share in shares if share is not None]
        return max(known) if len(known) == len(shares) else None

    def to_json(self) -> dict[str, Any]:
        """Plain data, as in `exact.json`."""
        from hwnas.workflows.exact.study_tables import to_json

        return to_json(self)


def study_exact(
    config: SearchConfig, *, budgets: int = 5, seeds: int = 3, out: str | Path | None = None,
    watch: Watch | None = None,
) -> ExactStudy:  # fmt: skip
    """Solve at some budgets, search from both starts, and compare.

    Args:
        config: A search with two additive objectives, the second being the budget; its seed is the
            first of `seeds`.
        budgets: How many are judged.
        seeds: Searches of each kind.
        out: Folder for `exact.json` and `exact.md`; nothing is written without.
        watch: Told where the study stands.

    Raises:
        ConfigError: options make no sense, or the problem has no exact front of two objectives.
        InfeasibleError: no design keeps the limits.
        RunError: the folder cannot be written.
    """
    watch = watch or Silent()
    if min(budgets, seeds) < 1:
        raise ConfigError(f"budgets={budgets}, seeds={seeds}; expected 1 or more of each")
    live = resolve(config)
    check_weights_and_data(live)
    watch.begin("solving for exact designs", None)
    search = exact_search(live.problem)
    began = time.perf_counter()
    given, judged, limits = _solved(search, budgets)
    truth = Truth.of(live.problem, given.front, judged)
    starts = {COLD: given.archs[:0], BETWEEN: given.archs, SEEDED: truth.front.archs}
    found: dict[str, list[ParetoFront | None]] = {start: [] for start in starts}
    seconds = {"exact": time.perf_counter() - began}
    watch.begin("searching", len(starts) * seeds)
    for seed in range(config.seed, config.seed + seeds):
        for start, archs in starts.items():
            began = time.perf_counter()
            found[start].append(_searched(live, archs, seed))
            seconds[start] = time.perf_counter() - began
            watch.advance(sum(map(len, found.values())))
    study = ExactStudy(
        space=live.space.name,
        objective=(live.problem.objectives[0].name, live.problem.objectives[0].unit),
        budget=(live.problem.objectives[1].name, live.problem.objectives[1].unit),
        settings={
            "evaluations": evaluations_of(live), "population": live.config.population,
            "seeds": list(range(config.seed, config.seed + seeds)),
            "given": {start: len(archs) for start, archs in starts.items()},
            "limits": [str(limit) for limit in live.problem.limits],
        },
        rows=truth.rows(limits, found),
        hypervolume={start: truth.volumes(fronts) for start, fronts in found.items()},
        seconds=seconds,
        combinations=given.combinations,
    )  # fmt: skip
    if out is not None:
        from hwnas.workflows.exact.study_tables import write_exact_study

        write_exact_study(study, Path(out))
    return study


def _solved(search: ExactSearch, budgets: int) -> tuple[ExactResult, ExactResult, list[float]]:
    """Designs to give, designs to judge by, and the budgets of the latter."""
    limits = search.spread([i / (2 * budgets) for i in range(2 * budgets + 1)])
    return search.within(limits[::2]), search.within(limits[1::2]), limits[1::2]


def _searched(live: Resolved, start: Archs, seed: int) -> ParetoFront | None:
    """The front of one search; None where it found no design that keeps the limits."""
    try:
        return run_nsga2(
            live.problem, population=live.config.population,
            max_evaluations=evaluations_of(live), seed=seed, start=start,
        ).front  # fmt: skip
    except InfeasibleError:
        return None
