"""The long steps of a study of exact optima: what `records` hold is not done again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from hwnas.cost.remembering import Records
from hwnas.errors import InfeasibleError
from hwnas.search import ExactResult, ParetoFront, run_nsga2
from hwnas.space import Archs
from hwnas.workflows.exact.records import exact_from, exact_record, front_from, front_record
from hwnas.workflows.exact.start import exact_search
from hwnas.workflows.preflight import check_weights_and_data
from hwnas.workflows.resolve import Resolved, evaluations_of
from hwnas.workflows.watch import Watch

__all__ = ["Solved", "search_once", "solve_once"]

_EXACT = "exact"


@dataclass(frozen=True, eq=False)
class Solved:
    """Designs to give, designs to judge by, the budgets of the latter, and what it took."""

    given: ExactResult
    judged: ExactResult
    limits: Sequence[float]
    seconds: float


def solve_once(live: Resolved, budgets: int, records: Records, watch: Watch) -> Solved:
    """The exact designs at budgets that are spread over the front.

    Raises:
        DataError, CheckpointError, DeviceError: as for `check_weights_and_data`.
        ConfigError: there are more than two objectives, or one that learns.
        CostError: a cost is no sum.
        SpaceError: too many variables change every table.
        InfeasibleError: no design keeps the limits.
    """
    if _EXACT not in records:
        check_weights_and_data(live)
        watch.begin("solving for exact designs", None)
        search = exact_search(live.problem)
        began = time.perf_counter()
        limits = search.spread([i / (2 * budgets) for i in range(2 * budgets + 1)])
        given, judged = search.within(limits[::2]), search.within(limits[1::2])
        seconds = time.perf_counter() - began
        records.add(_EXACT, {
            "given": exact_record(given), "judged": exact_record(judged),
            "limits": limits[1::2], "seconds": seconds,
        })  # fmt: skip
    found = records[_EXACT]
    given, judged = (exact_from(found[name], live.space) for name in ("given", "judged"))
    return Solved(given, judged, found["limits"], found["seconds"])


def search_once(
    live: Resolved, start: str, archs: Archs, seed: int, records: Records
) -> tuple[ParetoFront | None, float]:
    """The front of one search, None where nothing keeps the limits, and its seconds."""
    key = f"search/{start}/{seed}"
    if key not in records:
        began = time.perf_counter()
        front = _run(live, archs, seed)
        content = None if front is None else front_record(front)
        records.add(key, {"front": content, "seconds": time.perf_counter() - began})
    content = records[key]["front"]
    front = None if content is None else front_from(content, live.space)
    return front, records[key]["seconds"]


def _run(live: Resolved, start: Archs, seed: int) -> ParetoFront | None:
    try:
        return run_nsga2(
            live.problem, population=live.config.population,
            max_evaluations=evaluations_of(live), seed=seed, start=start,
        ).front  # fmt: skip
    except InfeasibleError:
        return None
