"""One option of each group, chosen exactly: the multiple-choice knapsack as an integer program.

    min   sum_g,o loss[g, o] x[g, o],   x[g, o] in {0, 1}
    with  sum_o x[g, o] = 1             for each group g,
          sum_g,o cost_k[g, o] x[g, o] <= budget_k

Source: the formulation of HAWQ-V3 (Yao et al., 2021) and of ModelOpt's AutoQuantize, with any
number of budgets; solved by HiGHS through `scipy.optimize.milp`. Options that another of their
group beats in everything are left out first, which changes no optimum.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwnas.search.dominance import non_dominated

__all__ = ["Certificate", "ChoiceProgram", "Chosen"]

Float = NDArray[np.float64]
Status = Literal["optimal", "time limit"]

_SCALE = 1e4  # of the loss: HiGHS stops at an absolute gap of 1e-6
_TIGHTER = 3e-7  # of a budget, above the solver's feasibility tolerance of 1e-7
_ROUNDING = 1e-9
_RETRIES = 4
_TIME_LIMIT = 1  # scipy's status


@dataclass(frozen=True, slots=True)
class Certificate:
    """How sure the solver is: no plan is better than `bound`; `gap` is the share that is open."""

    status: Status
    bound: float
    gap: float


@dataclass(frozen=True, eq=False)
class Chosen:
    """One option of each group, what they sum up to (n_columns,), and how sure that is."""

    options: tuple[int, ...]
    values: Float
    certificate: Certificate


class ChoiceProgram:
    """Groups of options whose values add up; every column is minimized or bounded from above.

    Args:
        constant: What every choice has, shape (n_columns,).
        groups: Values of the options of each group, shape (n_options, n_columns) each.
        gap: Relative gap at which the solver may stop.
        seconds: Time limit of one solve.
    """

    def __init__(
        self,
        constant: Float,
        groups: Sequence[Float],
        *,
        gap: float = 1e-6,
        seconds: float = 60.0,
    ) -> None:
        self._gap, self._seconds = gap, seconds
        self._full = tuple(groups)
        self._kept = [np.flatnonzero(non_dominated(values)) for values in self._full]
        lowest = [values.min(axis=0) for values in self._full]
        highest = [values.max(axis=0) for values in self._full]
        self.lowest: Float = constant + sum(lowest, np.zeros_like(constant))
        """Least possible value of each column by itself."""
        self.highest: Float = constant + sum(highest, np.zeros_like(constant))
        self._range = np.where(self.highest > self.lowest, self.highest - self.lowest, 1.0)
        rows = [
            (v[kept] - low) / self._range
            for v, kept, low in zip(self._full, self._kept, lowest, strict=True)
        ]
        self._scaled = np.concatenate([*rows, np.zeros((0, len(constant)))])
        self._sizes = [len(kept) for kept in self._kept]
        self._constant = constant

    def minimize(self, column: int, budgets: Sequence[tuple[int, float]]) -> Chosen | None:
        """The choice with the least value of a column; None if none keeps all budgets.

        `budgets` are pairs of a column and what it may sum up to.

        Raises:
            TimeoutError: no choice was found in time.
        """
        scaled = [(k, self._share(k, bound)) for k, bound in budgets if math.isfinite(bound)]
        if any(bound < -_ROUNDING for _, bound in scaled):
            return None
        tighter = 0.0
        for _ in range(_RETRIES):
            bounds = [(k, bound - tighter * _unit(bound)) for k, bound in scaled]
            solved = self._solve(self._scaled[:, column], bounds)
            if solved is None:
                return None
            chosen = self._read(solved[0], solved[1], column)
            shares = [(self._share(k, chosen.values[k]), bound) for k, bound in scaled]
            if all(share <= bound + _ROUNDING * _unit(bound) for share, bound in shares):
                return chosen
            tighter += _TIGHTER
        return None

    def nearest(self, budgets: Sequence[tuple[int, float]]) -> tuple[float, Float]:
        """The least excess over all budgets, as a share of each cost's range, and the values there.

        The largest excess counts (0 where all can be kept).
        """
        bounds = [(k, self._share(k, bound)) for k, bound in budgets]
        solved = self._solve(np.zeros(len(self._scaled)), bounds, slack=True)
        if solved is None:
            raise TimeoutError
        values = self._read(solved[0], solved[1], 0).values
        excess = max((self._share(k, values[k]) - bound for k, bound in bounds), default=0.0)
        return max(excess, 0.0), values

    def _share(self, column: int, value: float) -> float:
        return float((value - self.lowest[column]) / self._range[column])

    def _solve(
        self, loss: Float, bounds: Sequence[tuple[int, float]], *, slack: bool = False
    ) -> tuple[Float, Any] | None:
        """Run HiGHS; with `slack` the loss is the largest excess over the bounds."""
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array, hstack, vstack

        groups = len(self._sizes)
        members = np.repeat(np.arange(groups), self._sizes)
        usable = np.flatnonzero(self._usable(() if slack else bounds))
        if len(np.unique(members[usable])) < groups:
            return None
        if groups == 0:
            kept = slack or all(bound >= -_ROUNDING for _, bound in bounds)
            return (np.zeros(0), None) if kept else None
        n = len(usable)
        units = np.array([1.0 if slack else _unit(bound) for _, bound in bounds])
        costs = self._scaled[usable][:, [k for k, _ in bounds]].T / units[:, None]
        one_each = csr_array((np.ones(n), (members[usable], np.arange(n))), shape=(groups, n))
        rows = vstack([one_each, csr_array(costs.reshape(len(bounds), n))])
        if slack:
            excess = np.concatenate([np.zeros(groups), -np.ones(len(bounds))])
            rows = hstack([rows, csr_array(excess[:, None])])
        ends = np.array([bound for _, bound in bounds]) / units
        low = np.concatenate([np.ones(groups), np.full(len(bounds), -np.inf)])
        tail = np.ones(int(slack))
        with _stdout_kept_clean():
            found = milp(
                np.concatenate([loss[usable] * _SCALE, tail]),
                constraints=LinearConstraint(
                    rows.tocsr(), low, np.concatenate([low[:groups], ends])
                ),
                integrality=np.concatenate([np.ones(n), 0 * tail]),
                bounds=Bounds(0.0, np.concatenate([np.ones(n), np.inf * tail])),
                options={"mip_rel_gap": self._gap, "time_limit": self._seconds},
            )
        if found.x is not None:
            x = np.zeros(len(members))
            x[usable] = found.x[:n]
            return x, found
        if found.status == _TIME_LIMIT:
            raise TimeoutError
        return None

    def _usable(self, bounds: Sequence[tuple[int, float]]) -> NDArray[np.bool_]:
        """Options that do not break a budget by themselves; the others only spoil the scaling."""
        usable = np.ones(len(self._scaled), dtype=np.bool_)
        for k, bound in bounds:
            usable &= self._scaled[:, k] <= bound + _ROUNDING * _unit(bound)
        return usable

    def _read(self, x: Float, found: Any, column: int) -> Chosen:
        """Round to one option of each group, and add up exactly."""
        starts = np.concatenate([[0], np.cumsum(self._sizes)])
        options, total = [], self._constant.copy()
        for i, (kept, values) in enumerate(zip(self._kept, self._full, strict=True)):
            option = int(kept[int(x[starts[i] : starts[i + 1]].argmax())])
            options.append(option)
            total = total + values[option]
        return Chosen(tuple(options), total, self._certified(found, float(total[column]), column))

    def _certified(self, found: Any, value: float, column: int) -> Certificate:
        dual = None if found is None else found.mip_dual_bound
        if dual is None or not math.isfinite(dual):
            return Certificate("optimal", value, 0.0)
        bound = min(value, self.lowest[column] + dual / _SCALE * self._range[column])
        span = value - self.lowest[column]
        gap = (value - bound) / span if span > 0 else 0.0
        status: Status = "optimal" if found.status == 0 else "time limit"
        return Certificate(status, float(bound), float(max(gap, 0.0)))


@contextmanager
def _stdout_kept_clean() -> Iterator[None]:
    """Send to stderr what HiGHS prints: one line of its own gets past its log options.

    Seen with scipy 1.17: "HighsMipSolverData::transformNewIntegerFeasibleSolution". It would spoil
    the JSON of a command. Drop this when a run without it stays silent.
    """
    try:
        kept = os.dup(1)
    except OSError:  # there is no stdout to spoil
        yield
        return
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _unit(share: float) -> float:
    """What a budget's row is divided by, so that the solver's tolerance is a share of it."""
    return min(max(share, 1e-4), 1.0)
