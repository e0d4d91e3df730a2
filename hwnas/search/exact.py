"""The exact optimum of a problem whose costs are sums, and its exact front.

Quality and costs become tables (`hwnas.cost.additive`), and an integer program picks one option of
each group (`exact_choice.py`). Search variables that change every table, such as the resolution and
the depths, are gone through one combination after the other.

Exact means: for the models as they are given. A quality that is a sum of sensitivities is itself an
approximation, and so is every optimum of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import CostModel
from hwnas.cost.additive import AdditiveTables
from hwnas.errors import ConfigError, CostError, InfeasibleError
from hwnas.search.designs import Column, Designs
from hwnas.search.dominance import non_dominated
from hwnas.search.exact_choice import Certificate, ChoiceProgram, Chosen
from hwnas.search.front import ParetoFront
from hwnas.search.pricing import price
from hwnas.search.problem import Problem
from hwnas.space import Archs

__all__ = ["ExactResult", "ExactSearch", "run_exact"]

Float = NDArray[np.float64]
Budget = tuple[int, float]  # a column of the tables, and what it may sum up to
_STEP = 1e-6  # of the cost's range: costs that are closer count as one


@dataclass(frozen=True, eq=False)
class ExactResult:
    """Designs that no other of the space beats, best first objective first.

    Attributes:
        front: The designs with the values that the models give them.
        certificates: One for each design: how sure it is that its first objective is the best
            within its budget; bounds have natural signs.
        shared: Variables that were gone through one combination after the other.
        combinations: How many there are.
        complete: Whether these are all designs of the front, or those at some budgets.
        solves: Integer programs that were solved.
        seconds: Wall clock.
    """

    front: ParetoFront
    certificates: tuple[Certificate, ...]
    shared: tuple[str, ...]
    combinations: int
    complete: bool
    solves: int
    seconds: float

    @property
    def archs(self) -> Archs:
        """The designs as architectures, to start another search with."""
        return self.front.archs

    @property
    def optimal(self) -> bool:
        """Whether no solve ran into its time limit."""
        return all(certificate.status == "optimal" for certificate in self.certificates)


def run_exact(
    problem: Problem, *, points: int | None = 30, seconds: float = 60.0, gap: float = 1e-6
) -> ExactResult:
    """Solve a problem exactly: its best design, or with two objectives its front.

    Args:
        problem: Objectives and limits of additive cost models; limits hold against the value.
        points: Budgets of the second objective at which the first is optimized, the ends
            included; None finds every design of the front, which may be very many.
        seconds: Time limit of one integer program.
        gap: Relative gap at which the solver may stop.

    Raises:
        InfeasibleError: no design keeps the limits; names the nearest values that can be reached.
        CostError: a model is no sum over groups of variables.
        SpaceError: too many variables change every table; says which to freeze.
        ConfigError: more than two objectives, or no solution in time.
    """
    search = ExactSearch(problem, AdditiveTables(problem.space, _models(problem)), seconds, gap)
    if len(problem.objectives) == 1:
        return search.best()
    return search.front(points)


class ExactSearch:
    """Solves one problem; tables may be shared with other problems over the same models.

    The models of `tables` are those of `problem.columns`, in that order.
    """

    def __init__(
        self, problem: Problem, tables: AdditiveTables, seconds: float = 60.0, gap: float = 1e-6
    ) -> None:
        if tables.models != _models(problem):
            raise CostError("the tables are those of other cost models than the problem's columns")
        self._problem, self._shared = problem, tables.shared
        self._signs = np.array([1.0 if c.direction == "min" else -1.0 for c in problem.objectives])
        self._tables = tables.each()
        self._programs = [
            ChoiceProgram(
                self._signed(t.constant),
                [self._signed(group.values) for group in t.groups],
                gap=gap, seconds=seconds,
            )
            for t in self._tables
        ]  # fmt: skip
        if not self._programs:
            raise InfeasibleError(f"{problem.space.name}: no combination of {self._shared} is left")
        self._limits: list[Budget] = [
            (len(self._signs) + j, limit.bound if limit.op == "<=" else -limit.bound)
            for j, limit in enumerate(problem.limits)
        ]
        self._solves, self._start = 0, time.perf_counter()

    def best(self) -> ExactResult:
        """The design with the best first objective within the limits."""
        return self._result([self._first(())], complete=True)

    def front(self, points: int | None = 30) -> ExactResult:
        """The designs that trade the first objective for the second; see `run_exact`."""
        self._check_two()
        if points is None:
            return self._result(self._all(), complete=True)
        if points < 2:
            raise ConfigError(f"points is {points}; expected 2 or more, or None for the whole")
        return self._result(self._swept(points), complete=False)

    def within(self, budgets: Sequence[float]) -> ExactResult:
        """The best first objective within each of some budgets of the second.

        Budgets that nothing keeps are left out, and equal designs are one: `best_within` says what
        each budget gives.

        Raises:
            InfeasibleError: nothing keeps any of them.
        """
        self._check_two()
        signed = [float(self._signs[1] * budget) for budget in budgets]
        found = [self._least(0, [*self._limits, (1, budget)]) for budget in signed]
        points = [self._cheapest(point) for point in found if point is not None]
        if not points:
            raise InfeasibleError(
                f"no design of {self._problem.space.name} has {self._problem.objectives[1].name} "
                f"within {', '.join(f'{budget:g}' for budget in budgets)}; raise the budgets"
            )
        return self._result(points, complete=False)

    def spread(self, shares: Sequence[float]) -> list[float]:
        """Budgets of the second objective between its least value (0) and what the best costs (1).

        On a logarithmic scale where both are positive.
        """
        self._check_two()
        ends = self._ends(self._cheapest(self._first(())))
        positive = 0 < ends[0] <= ends[1]
        low, high = np.log(ends) if positive else ends
        at = low + (high - low) * np.asarray(shares, dtype=np.float64)
        kept = np.maximum(np.exp(at) if positive else at, ends[0])  # the logarithm's rounding
        budgets: list[float] = (self._signs[1] * kept).tolist()
        return budgets

    def _check_two(self) -> None:
        if len(self._problem.objectives) != 2:
            names = ", ".join(o.name for o in self._problem.objectives)
            raise ConfigError(
                f"an exact front has two objectives, the problem {len(self._problem.objectives)} "
                f"({names}); turn the others into limits"
            )

    def _ends(self, best: _Point) -> tuple[float, float]:
        """The least second objective, and that of the best first one; to be minimized."""
        cheapest = self._least(1, self._limits)
        low = best if cheapest is None else cheapest
        return float(low.chosen.values[1]), float(best.chosen.values[1])

    def _all(self) -> list[_Point]:
        """From the best first objective down, each time below the cost of the last."""
        step = _STEP * self._extent(1)
        point: _Point | None = self._first(())
        found = []
        while point is not None:
            point = self._cheapest(point)
            found.append(point)
            point = self._least(0, [*self._limits, (1, point.chosen.values[1] - step)])
        return found

    def _swept(self, points: int) -> list[_Point]:
        best = self._cheapest(self._first(()))
        ends = self._ends(best)
        space = np.geomspace if 0 < ends[0] <= ends[1] else np.linspace
        found = [best]
        for budget in space(*ends, points)[:-1]:
            # the ends of geomspace are off by rounding
            point = self._least(0, [*self._limits, (1, max(float(budget), ends[0]))])
            if point is not None:
                found.append(self._cheapest(point))
        return found

    def _first(self, budgets: Sequence[Budget]) -> _Point:
        found = self._least(0, [*self._limits, *budgets])
        if found is None:
            raise InfeasibleError(self._why_not())
        return found

    def _cheapest(self, point: _Point) -> _Point:
        """The least second objective at the same first one; the certificate stays the first's."""
        value = float(point.chosen.values[0])
        found = self._least(1, [*self._limits, (0, value)])
        if found is None or found.chosen.values[1] >= point.chosen.values[1]:
            return point
        return _Point(found.place, found.chosen, point.certificate)

    def _least(self, column: int, budgets: Sequence[Budget]) -> _Point | None:
        """The least value of a column over all combinations of the shared variables."""
        best: _Point | None = None
        bounds, late = [], False
        for place in sorted(range(len(self._programs)), key=lambda p: self._lowest(p, column)):
            if best is not None and self._lowest(place, column) >= best.chosen.values[column]:
                break
            self._solves += 1
            try:
                chosen = self._programs[place].minimize(column, budgets)
            except TimeoutError as error:
                raise ConfigError(
                    "no design was found within the time limit of a solve; raise `seconds`, or "
                    "freeze variables"
                ) from error
            if chosen is None:
                continue
            bounds.append(chosen.certificate.bound)
            late = late or chosen.certificate.status != "optimal"
            if best is None or chosen.values[column] < best.chosen.values[column]:
                best = _Point(place, chosen, chosen.certificate)
        if best is None:
            return None
        value, bound = float(best.chosen.values[column]), min(bounds)
        span = value - self._lowest(best.place, column)
        certificate = Certificate(
            "time limit" if late else "optimal", bound, (value - bound) / span if span > 0 else 0.0
        )
        return _Point(best.place, best.chosen, certificate)

    def _why_not(self) -> str:
        """Name for each limit the value of the design that exceeds all of them least."""
        try:
            found = [program.nearest(self._limits) for program in self._programs]
        except TimeoutError:
            return f"no design of {self._problem.space.name} keeps the limits; loosen one"
        place = min(range(len(found)), key=lambda p: found[p][0])
        lines = [f"no design of {self._problem.space.name} keeps the limits; the nearest has"]
        for j, limit in enumerate(self._problem.limits):
            column = len(self._signs) + j
            sign = 1.0 if limit.op == "<=" else -1.0
            alone = min if limit.op == "<=" else max
            extreme = alone(sign * float(p.lowest[column]) for p in self._programs)
            unit = self._problem.columns[self._problem.column(limit.name)].unit
            lines.append(
                f"  {limit}: {sign * found[place][1][column]:.6g} {unit}; by itself it could be "
                f"{extreme:.6g}"
            )
        return "\n".join([*lines, "loosen a limit, or widen the space"])

    def _signed(self, values: Float) -> Float:
        """Columns to minimize: objectives, then one for each limit."""
        own = values[..., : len(self._signs)] * self._signs
        limits = [
            values[..., self._problem.column(limit.name)] * (1.0 if limit.op == "<=" else -1.0)
            for limit in self._problem.limits
        ]
        return np.concatenate([own, *(column[..., None] for column in limits)], axis=-1)

    def _lowest(self, place: int, column: int) -> float:
        return float(self._programs[place].lowest[column])

    def _extent(self, column: int) -> float:
        highest = max(float(program.highest[column]) for program in self._programs)
        return highest - min(self._lowest(place, column) for place in range(len(self._programs)))

    def _result(self, points: Sequence[_Point], *, complete: bool) -> ExactResult:
        values = np.stack([point.chosen.values[: len(self._signs)] for point in points])
        kept = np.flatnonzero(non_dominated(values))
        order = kept[np.argsort(values[kept, 0], kind="stable")]
        x = np.stack([self._tables[points[i].place].x(points[i].chosen.options) for i in order])
        archs = self._problem.space.decode(x)
        sign = float(self._signs[0])
        certificates = [points[i].certificate for i in order]
        return ExactResult(
            ParetoFront(_designs(self._problem, archs)),
            tuple(Certificate(c.status, sign * c.bound, c.gap) for c in certificates),
            self._shared,
            len(self._programs),
            complete,
            self._solves,
            time.perf_counter() - self._start,
        )


@dataclass(frozen=True, eq=False)
class _Point:
    """A choice in one combination of the shared variables."""

    place: int
    chosen: Chosen
    certificate: Certificate


def _models(problem: Problem) -> tuple[CostModel, ...]:
    return tuple(column.model for column in problem.columns)


def _designs(problem: Problem, archs: Archs) -> Designs:
    columns = problem.columns
    priced = price({column.name: column.model for column in columns}, archs)
    failed = [message for message in priced.messages if message]
    if failed:
        raise CostError(failed[0])
    told = tuple(
        Column(c.name, c.unit, c.direction, fidelity, place < len(problem.objectives))
        for place, (c, fidelity) in enumerate(zip(columns, priced.fidelity, strict=True))
    )
    return Designs(archs, told, priced.values, priced.lo, priced.hi)
