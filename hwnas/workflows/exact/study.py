"""NSGA-II from a cold start and from exact designs, against exact optima at some budgets.

Source: the project's specification of cost models, section 9.3, for the program. With n budgets to
judge at, 2 n + 1 are spread over the exact front. There are three starts: cold; seeded with the
exact designs at all of them, which can only end at the optimum; and seeded with those at every
second one, both ends included, which is judged between: by what it was not given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.config import SearchConfig
from hwnas.cost.remembering import Records
from hwnas.errors import ConfigError
from hwnas.records import hash_inputs
from hwnas.registry.loading import split_file_spec
from hwnas.search import ParetoFront
from hwnas.workflows.cost_fingerprint import fingerprint_of, named_settings, space_settings
from hwnas.workflows.exact.steps import search_once, solve_once
from hwnas.workflows.exact.truth import ExactBudget, Truth
from hwnas.workflows.resolve import Resolved, evaluations_of, resolve
from hwnas.workflows.study_memory import keep_inside, open_records, refuse_folder
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
    resume: bool = False, watch: Watch | None = None,
) -> ExactStudy:  # fmt: skip
    """Solve at some budgets, search from both starts, and compare.

    Args:
        config: A search with two additive objectives, the second being the budget; its seed is the
            first of `seeds`.
        budgets: How many are judged.
        seeds: Searches of each kind.
        out: Folder for `exact.json` and `exact.md`, and for `measurements.jsonl`: exact designs
            and the front of each search, as soon as it ends; nothing is written without.
        resume: Go on in `out`; more seeds may be added.
        watch: Told where the study stands.

    Raises:
        ConfigError: options make no sense, or the problem has no exact front of two objectives.
        InfeasibleError: no design keeps the limits.
        RunError: the folder exists, was begun with other options, weights or images, or cannot be
            written.
        Interrupted: Ctrl-C; what was found is saved.
    """
    watch = watch or Silent()
    if min(budgets, seeds) < 1:
        raise ConfigError(f"budgets={budgets}, seeds={seeds}; expected 1 or more of each")
    refuse_folder(out, resume=resume)
    live = resolve(config)
    with open_records(out, lambda: _settings(live, budgets), resume=resume) as records:
        keep_inside({column.name: column.model for column in live.problem.columns}, records)
        study = _studied(live, budgets, range(config.seed, config.seed + seeds), records, watch)
        if out is not None:
            from hwnas.workflows.exact.study_tables import write_exact_study

            write_exact_study(study, Path(out))
    return study


def _settings(live: Resolved, budgets: int) -> dict[str, Any]:
    """What decides the designs that are kept; more seeds change none of them."""
    problem, config = live.problem, live.config
    specs = (*config.objectives, *config.costs)
    files = {spec: Path(file[0]) for spec in specs if (file := split_file_spec(spec)) is not None}
    found = {
        "study": "exact", **space_settings(live.space), "budgets": budgets,
        "evaluations": evaluations_of(live), "population": config.population, "seed": config.seed,
        "objectives": [objective.name for objective in problem.objectives],
        "limits": [str(limit) for limit in problem.limits], "limit_on": config.limit_on,
        "options": config.options, "plugins_sha256": list(hash_inputs(files.values()).values()),
    }  # fmt: skip
    for column in problem.columns:
        own = fingerprint_of(column.model, column.name, {}, live.context)
        found |= named_settings(f"cost.{column.name}", own)
    return found


def _studied(
    live: Resolved, budgets: int, seeds: Sequence[int], records: Records, watch: Watch
) -> ExactStudy:
    solved = solve_once(live, budgets, records, watch)
    given = solved.given
    truth = Truth.of(live.problem, given.front, solved.judged)
    starts = {COLD: given.archs[:0], BETWEEN: given.archs, SEEDED: truth.front.archs}
    found: dict[str, list[ParetoFront | None]] = {start: [] for start in starts}
    seconds = {"exact": solved.seconds}
    watch.begin("searching", len(starts) * len(seeds))
    for seed in seeds:
        for start, archs in starts.items():
            front, seconds[start] = search_once(live, start, archs, seed, records)
            found[start].append(front)
            watch.advance(sum(map(len, found.values())))
    first, second = live.problem.objectives
    return ExactStudy(
        space=live.space.name,
        objective=(first.name, first.unit),
        budget=(second.name, second.unit),
        settings={
            "evaluations": evaluations_of(live), "population": live.config.population,
            "seeds": list(seeds),
            "given": {start: len(archs) for start, archs in starts.items()},
            "limits": [str(limit) for limit in live.problem.limits],
        },
        rows=truth.rows(solved.limits, found),
        hypervolume={start: truth.volumes(fronts) for start, fronts in found.items()},
        seconds=seconds,
        combinations=given.combinations,
    )  # fmt: skip
