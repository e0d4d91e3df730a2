"""Objectives that learn while the search runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwnas.cost import CostModel
from hwnas.errors import ConfigError
from hwnas.search.ledger import Ledger
from hwnas.search.pricing import price
from hwnas.search.problem import Problem

__all__ = ["Refits", "fitted_names"]


def fitted_names(problem: Problem) -> tuple[str, ...]:
    """The columns that are refitted: their model has `fit`, and its `target` is another column.

    A predictor whose target is not evaluated in this run keeps what it has learned before, and is
    priced like any other model.

    Raises:
        ConfigError: a target is itself refitted.
    """
    fitted = {
        column.name: str(column.model.target)  # type: ignore[attr-defined]
        for column in problem.columns
        if hasattr(column.model, "fit") and getattr(column.model, "target", None) in problem.names
    }
    chained = [name for name, target in fitted.items() if target in fitted]
    if chained:
        raise ConfigError(
            f"{', '.join(chained)}: learns from a column that is itself learned; name a target "
            "that is measured or computed"
        )
    return tuple(fitted)


class Refits:
    """Refits predictors after each generation on everything evaluated, and prices again.

    A fitted value belongs to the model of the moment, not to the architecture: it is computed anew
    for every row of the ledger after each fit and is not written to `evaluations.jsonl`; a resumed
    run repeats the fits.
    """

    def __init__(self, problem: Problem) -> None:
        """Find the columns to refit."""
        names = fitted_names(problem)
        self._models: dict[str, Any] = {
            column.name: column.model for column in problem.columns if column.name in names
        }

    def __len__(self) -> int:
        return len(self._models)

    def update(self, ledger: Ledger) -> None:
        """Fit each model on the rows where its target is known, then fill its column.

        Raises:
            HwnasError: a model refuses to be fitted.
        """
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
