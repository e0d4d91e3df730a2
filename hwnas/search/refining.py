"""Real evaluations of chosen designs, from which a predictor learns while the search runs.

A predicted objective is exact nowhere, and a search goes where it errs on the bright side. So a
cost model that is `Refining` has some designs evaluated by its real counterpart: at first some
drawn at random from the first generation, then, in rounds spread evenly over the search, designs of
the current front. After each round it is fitted again and every design is priced anew.

The real values are a journal of their own in the run folder, so that a resumed run repeats the fits
without repeating the evaluations. They serve the predictor; the objective's values stay predicted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import CostModel, Refinement, Refining
from hwnas.errors import CostError
from hwnas.records import RunFolder
from hwnas.search.dominance import non_dominated
from hwnas.search.ledger import Ledger, row_keys
from hwnas.search.pricing import price
from hwnas.search.problem import Problem
from hwnas.search.stored import by_key, to_evaluations
from hwnas.space import Archs, SearchSpace

__all__ = ["RealValues", "Refiner", "choose", "refinement_of"]

IntArray = NDArray[np.intp]


def refinement_of(model: CostModel) -> Refinement | None:
    """What a search may spend on a cost model; None for one that is not refined."""
    return model.refinement() if isinstance(model, Refining) else None


class RealValues:
    """Answers of a costly cost model, each asked for once: memory, run folder, cost model."""

    def __init__(
        self, space: SearchSpace, model: CostModel, *, file: str, folder: RunFolder | None
    ) -> None:
        """Read what `file` of the folder holds.

        Raises:
            RunError: the folder's file is damaged or of another space.
        """
        self._space, self._model = space, model
        self._journal = None if folder is None else folder.journal(file)
        self._known: dict[bytes, tuple[float | None, str]] = {}
        stored = () if self._journal is None else self._journal.records
        for key, evaluation in by_key(space, stored).items():
            self._known[key] = (evaluation.values.get(model.name), evaluation.message)

    @property
    def known(self) -> tuple[bytes, ...]:
        """Keys of the architectures asked for so far, in that order."""
        return tuple(self._known)

    def ask(self, one: Archs) -> tuple[float | None, str]:
        """Return the value of a single architecture, None with a message where it failed."""
        key = row_keys(one)[0]
        if key not in self._known:
            found = price({self._model.name: self._model}, one)
            value = float(found.values[0, 0])
            message = found.messages[0]
            if self._journal is not None:
                self._journal.append(*to_evaluations(one, found, [len(self._known)]))
            self._known[key] = (None if message else value, message)
        return self._known[key]


class Refiner:
    """One refined objective of one run."""

    def __init__(
        self,
        name: str,
        problem: Problem,
        *,
        planned: int,
        folder: RunFolder | None = None,
        on_real: Callable[[int], None] | None = None,
    ) -> None:
        """Set up; nothing is evaluated.

        Args:
            name: the column.
            problem: what is searched.
            planned: designs that the search will evaluate; rounds are spread over them.
            folder: where real values are kept.
            on_real: told the number of real values after each.
        """
        self._name, self._problem, self._planned = name, problem, planned
        self._model = problem.columns[problem.column(name)].model
        found = refinement_of(self._model)
        assert found is not None
        self._plan = found
        self._real = RealValues(problem.space, found.real, file=f"real_{name}.jsonl", folder=folder)
        self._on_real = on_real
        self._rows: list[int] = []
        self._values: list[float] = []
        self._failed: list[int] = []
        self._round = 0

    @property
    def asked(self) -> int:
        """How many designs were evaluated for real, failures included."""
        return len(self._rows) + len(self._failed)

    def update(self, ledger: Ledger) -> None:
        """Spend what is due, fit, and price every row of the ledger.

        Raises:
            CostError: none of the first designs could be evaluated for real.
            HwnasError: the model refuses to be fitted.
        """
        if not self.asked and self._plan.start:
            self._ask(self._first(ledger), ledger)
            self._fit(ledger)
        self._price(ledger)
        while self._round < self._plan.rounds and len(ledger) >= self._due(self._round + 1):
            self._round += 1
            rows = choose(self._problem, ledger, self._name, self._taken(), self._share())
            if len(rows):
                self._ask(rows, ledger)
                self._fit(ledger)
                self._price(ledger)

    def settle(self, ledger: Ledger) -> None:
        """Fit on what the run folder holds, evaluate nothing, and price every row."""
        found = [ledger.row(key) for key in self._real.known]
        self._ask(np.array([row for row in found if row is not None], dtype=np.intp), ledger)
        if self._rows:
            self._fit(ledger)
        self._price(ledger)

    def _due(self, number: int) -> float:
        return self._planned * number / self._plan.rounds

    def _share(self) -> int:
        """What is left, divided among the rounds that are left, this one included."""
        left = self._plan.evaluations - self.asked
        return -(-left // (self._plan.rounds - self._round + 1))

    def _taken(self) -> set[int]:
        return {*self._rows, *self._failed}

    def _first(self, ledger: Ledger) -> IntArray:
        """Rows drawn at random, the same in every run of the same search."""
        rows = _known_elsewhere(ledger, self._name)
        drawn = np.random.default_rng(len(rows)).permutation(rows)
        return np.sort(drawn[: self._plan.start])

    def _ask(self, rows: IntArray, ledger: Ledger) -> None:
        message = ""
        for row in rows.tolist():
            value, message = self._real.ask(ledger.archs[row : row + 1])
            if value is None:
                self._failed.append(row)
            else:
                self._rows.append(row)
                self._values.append(value)
            if self._on_real is not None:
                self._on_real(self.asked)
        if len(rows) and not self._rows:
            raise CostError(
                f"{self._name}: none of {len(rows)} designs could be evaluated by "
                f"{self._plan.real.name}, the last one because: {message}"
            )

    def _fit(self, ledger: Ledger) -> None:
        model: CostModel = self._model.fit(  # type: ignore[attr-defined]
            ledger.archs.take(self._rows), np.array(self._values, dtype=np.float64)
        )
        self._model = model

    def _price(self, ledger: Ledger) -> None:
        ledger.rewrite(price({self._name: self._model}, ledger.archs))


def choose(problem: Problem, ledger: Ledger, name: str, taken: set[int], n: int) -> IntArray:
    """Pick up to n designs to evaluate for real among the undominated ones, in ledger order.

    Half of them are those with the widest interval; the others lie evenly along the predicted
    values, the best included, so that no part of the front rests on prediction alone. Layers of
    dominated designs follow where the front has not enough that are new. Designs that break a limit
    count only where none keeps it.
    """
    f = problem.minimized(ledger.values)
    g = problem.constraints(ledger.values, ledger.lo, ledger.hi)
    left = np.flatnonzero(ledger.ok)
    feasible = (g[left] <= 0).all(axis=1)
    left = left[feasible] if feasible.any() else left
    candidates: list[int] = []
    while len(candidates) < n and len(left):
        front = left[non_dominated(f[left])]
        candidates += [row for row in front.tolist() if row not in taken]
        left = np.setdiff1d(left, front)
    column = problem.column(name)
    width = np.nan_to_num(ledger.hi[:, column] - ledger.lo[:, column])
    doubtful = sorted(candidates, key=lambda row: (-width[row], row))[: n // 2]
    rest = sorted(set(candidates) - set(doubtful), key=lambda r: (ledger.values[r, column], r))
    wanted = min(n - len(doubtful), len(rest))
    places = np.unique(np.linspace(0, len(rest) - 1, wanted).round().astype(np.intp))
    if problem.columns[column].direction == "max":
        rest = rest[::-1]  # a single one is then the best
    return np.sort(np.array([*doubtful, *(rest[p] for p in places)], dtype=np.intp))


def _known_elsewhere(ledger: Ledger, name: str) -> IntArray:
    """Rows where every other column is known."""
    others = [i for i, other in enumerate(ledger.names) if other != name]
    return np.flatnonzero(~np.isnan(ledger.values[:, others]).any(axis=1))
