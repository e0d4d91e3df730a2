"""A search that begins with the exact front, and says how far it ended from it.

Every second design of the exact front goes into the first population; the others are only
compared with, so that the gap is not that of designs that the search was given.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hwnas.cost import Estimating
from hwnas.cost.additive import AdditiveTables
from hwnas.errors import ConfigError, CostError, SpaceError
from hwnas.records import RunFolder
from hwnas.records.exact import ExactDesign, ExactStart, read_exact, write_exact
from hwnas.search import (
    Designs,
    ExactResult,
    ExactSearch,
    ParetoFront,
    Problem,
    best_within,
    fitted_names,
    front_gap,
)
from hwnas.space import Archs, SearchSpace
from hwnas.workflows.resolve import Resolved, evaluations_of
from hwnas.workflows.watch import Watch

__all__ = [
    "begin_exactly",
    "compare_with_exact",
    "exact_archs",
    "exact_search",
    "prepare_exact",
]

_POINTS = 21  # budgets: eleven designs to give and ten between them


def prepare_exact(live: Resolved) -> ExactSearch | None:
    """Find out before a search whether it can begin exactly; None where it is not asked to.

    Raises:
        ConfigError: the algorithm is not NSGA-II, or the costs have no exact front.
    """
    if live.config.start != "exact":
        return None
    if live.config.algorithm != "nsga2":
        raise ConfigError(
            f"start=exact gives nsga2 its first designs, and the algorithm is "
            f"{live.config.algorithm}; leave one of the two out"
        )
    try:
        return exact_search(live.problem)
    except (ConfigError, CostError, SpaceError) as error:
        raise ConfigError(f"start=exact: {error}; or search without --start exact") from error


def exact_search(problem: Problem) -> ExactSearch:
    """The exact search of a problem with one or two objectives.

    Raises:
        ConfigError: there are more objectives, or one is learned during the search.
        CostError: a cost is no sum.
        SpaceError: too many variables change every table; says which to freeze.
    """
    names = [objective.name for objective in problem.objectives]
    if len(names) > 2:
        raise ConfigError(
            f"an exact front has two objectives, and this search has {len(names)} "
            f"({', '.join(names)}); name two with --objective, and limits for others with --limit"
        )
    learned = fitted_names(problem)
    if learned:
        raise ConfigError(
            f"{', '.join(learned)} changes as it learns during the search, and an exact front is "
            "one of sums that stay, such as sensitivity and bitops; name them with --objective"
        )
    return ExactSearch(
        problem, AdditiveTables(problem.space, [column.model for column in problem.columns])
    )


def begin_exactly(
    folder: RunFolder | None, live: Resolved, search: ExactSearch | None, watch: Watch
) -> ExactStart | None:
    """Solve, or read what the folder has, so that a resumed run begins as it did.

    Raises:
        InfeasibleError: no design keeps the limits.
        ConfigError: as for `prepare_exact`.
    """
    if live.config.start != "exact":
        return None
    start = read_exact(folder) if folder is not None else None
    if start is None:
        search = search or prepare_exact(live)
        if search is None:
            return None
        watch.begin("solving for the exact front", None)
        two = len(live.problem.objectives) == 2
        start = _recorded(live, search.front(_POINTS) if two else search.best())
        if folder is not None:
            write_exact(folder, start)
    watch.remark(start.sentences()[0])
    return start


def exact_archs(start: ExactStart | None, space: SearchSpace) -> Archs:
    """The designs that the first population gets; none without a start."""
    designs = () if start is None else start.designs
    return Archs.of(space, [space.arch(d.genes) for d in designs if d.given])


def compare_with_exact(
    folder: RunFolder | None, start: ExactStart | None, front: ParetoFront
) -> ExactStart | None:
    """Add how far a front is from the exact one, and write it into the folder."""
    if start is None:
        return None
    ratio = None
    if start.budget is None:
        found = [front.best(start.objective).values[start.objective]]
    else:
        budget = start.budget
        budgets = [design.values[budget] for design in start.designs]
        found = best_within(front, (start.objective, budget), budgets).tolist()
        ratio = front_gap(front, _front_of(start, front)).hypervolume_ratio
    designs = tuple(
        replace(design, found=None if np.isnan(best) else best)
        for design, best in zip(start.designs, found, strict=True)
    )
    ended = replace(start, designs=designs, ended=True, hypervolume_ratio=ratio)
    if folder is not None:
        write_exact(folder, ended)
    return ended


def _recorded(live: Resolved, result: ExactResult) -> ExactStart:
    first, *others = live.problem.objectives
    given = _given(len(result.front), min(live.config.population, evaluations_of(live)))
    certificates = zip(result.front, result.certificates, strict=True)
    return ExactStart(
        objective=first.name,
        unit=first.unit,
        direction=first.direction,
        budget=others[0].name if others else None,
        budget_unit=others[0].unit if others else "",
        shared=result.shared,
        combinations=result.combinations,
        complete=result.complete,
        seconds=result.seconds,
        limits_differ=_limits_differ(live.problem),
        designs=tuple(
            ExactDesign(
                arch_id=design.id, genes=dict(design.arch.genes), values=dict(design.values),
                given=row in given, gap=certificate.gap,
            )
            for row, (design, certificate) in enumerate(certificates)
        ),
    )  # fmt: skip


def _given(n: int, population: int) -> set[int]:
    """Every second row of n, both ends, and no more than half a population."""
    most = min(n // 2 + 1, max(1, population // 2))
    return set(np.linspace(0, n - 1, most).round().astype(int).tolist())


def _limits_differ(problem: Problem) -> bool:
    return any(
        limit.on == "pessimistic"
        and isinstance(problem.columns[problem.column(limit.name)].model, Estimating)
        for limit in problem.limits
    )


def _front_of(start: ExactStart, front: ParetoFront) -> ParetoFront:
    """The exact designs as a front with the columns of another."""
    space = front.archs.space
    archs = Archs.of(space, [space.arch(design.genes) for design in start.designs])
    values = np.array([[design.values[name] for name in front.names] for design in start.designs])
    unknown = np.full_like(values, np.nan)
    return ParetoFront(Designs(archs, front.columns, values, unknown, unknown))
