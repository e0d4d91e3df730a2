"""Objectives that learn while the search runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hwnas.cost import CostModel
from hwnas.errors import ConfigError
from hwnas.records import Evaluation, RunFolder
from hwnas.search.ledger import Ledger
from hwnas.search.outcomes import Outcomes
from hwnas.search.pricing import price
from hwnas.search.problem import Problem
from hwnas.search.refining import Refiner, refinement_of
from hwnas.search.stored import by_key, to_evaluations, to_outcomes
from hwnas.space import Arch

__all__ = ["Refits", "fitted_names", "with_fitted"]


def fitted_names(problem: Problem) -> tuple[str, ...]:
    """The columns that are fitted while the search runs, in their order.

    A model with `fit` whose `target` is another column learns from that column; one that is
    `Refining` learns from real evaluations of a few designs. A predictor with neither keeps what it
    has learned before, and is priced like any other model.

    Raises:
        ConfigError: a target is itself fitted.
    """
    targets = _targets(problem)
    refined = {c.name for c in problem.columns if refinement_of(c.model) is not None}
    fitted = refined | targets.keys()
    chained = [name for name, target in targets.items() if target in fitted]
    if chained:
        raise ConfigError(
            f"{', '.join(chained)}: learns from a column that is itself learned; name a target "
            "that is measured or computed"
        )
    return tuple(name for name in problem.names if name in fitted)


def _targets(problem: Problem) -> dict[str, str]:
    return {
        column.name: str(column.model.target)  # type: ignore[attr-defined]
        for column in problem.columns
        if hasattr(column.model, "fit") and getattr(column.model, "target", None) in problem.names
    }


class Refits:
    """Fits predictors after each generation on everything evaluated, and prices again.

    A fitted value belongs to the model of the moment, not to the architecture: it is computed anew
    for every row of the ledger after each fit and is not written to `evaluations.jsonl`; a resumed
    run repeats the fits.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        planned: int = 1,
        folder: RunFolder | None = None,
        on_real: Callable[[], None] | None = None,
    ) -> None:
        """Find the columns to fit; `on_real` is called after each real evaluation."""
        targets = _targets(problem)
        self._on_real = on_real
        self._models: dict[str, Any] = {
            column.name: column.model for column in problem.columns if column.name in targets
        }
        self._refiners = [
            Refiner(name, problem, planned=planned, folder=folder, on_real=self._told)
            for name in fitted_names(problem)
            if name not in targets
        ]

    def __len__(self) -> int:
        return len(self._models) + len(self._refiners)

    @property
    def real_evaluations(self) -> int:
        """How many designs were evaluated for real to learn from."""
        return sum(refiner.asked for refiner in self._refiners)

    def update(self, ledger: Ledger) -> None:
        """Fit each model on what is known, then fill its column.

        Raises:
            HwnasError: a model refuses to be fitted, or no design can be evaluated for real.
        """
        self._fit_to_targets(ledger)
        for refiner in self._refiners:
            refiner.update(ledger)

    def settle(self, ledger: Ledger) -> None:
        """As `update`, from what the run folder holds alone."""
        self._fit_to_targets(ledger)
        for refiner in self._refiners:
            refiner.settle(ledger)

    def _fit_to_targets(self, ledger: Ledger) -> None:
        if not self._models:
            return
        archs = ledger.archs
        models: dict[str, CostModel] = {}
        for name, model in self._models.items():
            target = ledger.values[:, ledger.names.index(model.target)]
            known = np.flatnonzero(~np.isnan(target))
            if len(known):
                self._models[name] = model.fit(archs.take(known), target[known].copy())
            models[name] = self._models[name]
        ledger.rewrite(price(models, archs))

    def _told(self, _: int) -> None:
        if self._on_real is not None:
            self._on_real()


def with_fitted(problem: Problem, folder: RunFolder) -> tuple[Evaluation, ...]:
    """The evaluations of a run folder with the values of fitted columns, which it does not hold.

    Raises:
        HwnasError: a model refuses to be fitted.
    """
    fitted = fitted_names(problem)
    if not fitted:
        return tuple(folder.evaluations())
    stored = list(by_key(problem.space, folder.evaluations()).values())
    if not stored:
        return ()
    archs = problem.space.archs([Arch(problem.space.name, e.genes) for e in stored])
    names = tuple(name for name in problem.names if name not in fitted)
    found = to_outcomes(stored, names)
    ledger = Ledger(problem.space, problem.names)
    ledger.add(archs, found)
    Refits(problem, folder=folder).settle(ledger)
    messages = tuple(
        said or ("a fitted objective gave no value" if lacks else "")
        for said, lacks in zip(found.messages, (~ledger.ok).tolist(), strict=True)
    )
    whole = Outcomes(
        problem.names, ledger.values.copy(), ledger.lo.copy(), ledger.hi.copy(), messages,
        tuple(ledger.fidelity), found.seconds, found.breakdowns,
    )  # fmt: skip
    return tuple(to_evaluations(archs, whole, [e.index for e in stored]))
