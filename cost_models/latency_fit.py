"""How the latency predictor is put together: a sum of columns first, then what it leaves over.

Several kinds of columns are tried, each alone, then with a residual learned on ln(y / sum): by
ridge regression on genes, by boosted trees. What cross-validation finds best is taken; the first
of two where the other is not better by more than 3 %. The residuals of cross-validation also give
the interval. Source: Vovk, "Cross-conformal predictors", 2015; Barber et al., "Predictive
inference with the jackknife+", Annals of Statistics 2021; with few labels a split would waste a
quarter of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cost_models.latency_linear import LinearFit
from hwnas.calibration import hold_out
from hwnas.calibration.accuracy import Accuracy
from hwnas.errors import CostError

__all__ = ["FEWEST", "Boosted", "Chosen", "Material", "choose", "combined"]

Float = NDArray[np.float64]
Single = NDArray[np.float32]
FEWEST = 8
_FOLDS = 8
_GAIN = 0.97  # a residual must bring the error below this share of what it was
_TRIED = 2  # bases that residuals are tried on
_RIDGE, _TREES = "ridge on genes", "boosted trees"


class Base(Protocol):
    """What is fitted first: columns (n, p) to milliseconds."""

    @property
    def left_out(self) -> Float:
        """What a fit without it says of each row, ms, shape (n,)."""
        ...

    def predict(self, x: Float) -> Float:
        """Return milliseconds, shape (n,)."""
        ...

    def beyond(self, x: Float) -> NDArray[np.bool_]:
        """Where x (n, p) is further out than any row that was fitted on, shape (n,)."""
        ...

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that was learned."""
        ...


class Boosted(Protocol):
    """Trees fitted to log ratios."""

    def predict(self, x: Single) -> Float:
        """Return the log ratio, shape (n,)."""
        ...


Train = Callable[[Single, Float], Boosted]


@dataclass(frozen=True, eq=False)
class Material:
    """Labels and everything that they may be regressed on.

    Attributes:
        ids: Names of the rows; equal names are never on two sides of a split.
        y: Times in ms, shape (n,).
        bases: Columns (n, p) by name of the base, in the order of preference.
        fits: How each base is fitted to its columns and y.
        genes: One column an option, for the ridge on what is left.
        trees: Columns that trees see, besides ln of the base's value.
    """

    ids: tuple[str, ...]
    y: Float
    bases: Mapping[str, Float]
    fits: Mapping[str, Callable[[Float, Float], Base]]
    genes: Float
    trees: Single

    def take(self, rows: NDArray[np.bool_]) -> Material:
        """Return the marked rows."""
        ids = tuple(i for i, wanted in zip(self.ids, rows, strict=True) if wanted)
        bases = {name: x[rows] for name, x in self.bases.items()}
        return Material(ids, self.y[rows], bases, self.fits, self.genes[rows], self.trees[rows])


@dataclass(frozen=True, eq=False)
class Chosen:
    """What was fitted: a base, perhaps a ridge, perhaps trees; and how well it does.

    Attributes:
        base: Name of the base.
        residual: none, ridge on genes, or boosted trees.
        fit: The fit on the base's columns.
        ridge: Factors of genes, where the residual is a ridge.
        trees: Trees, where it is boosted.
        predicted: Cross-validated prediction of each label, ms.
        tried: Cross-validated MAPE by what was tried, percent.
    """

    base: str
    residual: str
    fit: Base
    ridge: LinearFit | None
    trees: Boosted | None
    predicted: Float
    tried: Mapping[str, float]


def choose(material: Material, train: Train, *, only: Sequence[str] = ()) -> Chosen:
    """Fit what cross-validation finds best.

    Args:
        material: labels and columns.
        train: fits trees to columns (n, f) and log ratios (n,).
        only: bases to try; all by default.

    Raises:
        CostError: fewer than eight architectures.
    """
    different = len(set(material.ids))
    if different < FEWEST:
        raise CostError(
            f"latency: {different} measured architectures; expected at least {FEWEST} to learn "
            "from: measure more of them"
        )
    folds = _folds(material.ids)
    names = [name for name in material.bases if not only or name in only]
    crossed = {(name, "none"): _crossed(material, folds, name, "none", train) for name in names}
    errors = {key: _error(material.y, p) for key, p in crossed.items()}
    ranked = sorted(names, key=lambda name: errors[name, "none"])
    least = errors[ranked[0], "none"]
    # where two do equally well, the one that says more of why
    best = next((n, "none") for n in names if _GAIN * errors[n, "none"] <= least)
    for name in dict.fromkeys([best[0], *ranked[:_TRIED]]):
        for residual in (_RIDGE, _TREES):
            crossed[name, residual] = _crossed(material, folds, name, residual, train)
            errors[name, residual] = _error(material.y, crossed[name, residual])
            if errors[name, residual] < _GAIN * errors[best]:
                best = (name, residual)
    tried = {_label(*key): value for key, value in errors.items()}
    fit, ridge, trees = _fitted(material, *best, train)
    return Chosen(*best, fit, ridge, trees, crossed[best], tried)


def _folds(ids: Sequence[str]) -> NDArray[np.int64]:
    """Return the fold of each row (n,), by the order of the ids' sha256; equal ids share one."""
    fold = np.zeros(len(ids), np.int64)
    count = min(_FOLDS, len(set(ids)))
    for k in range(1, count):
        # the first k of `count` parts of the hash order, less the k - 1 before them
        fold += ~hold_out(ids, k / count)
    return fold


def _crossed(
    material: Material, folds: NDArray[np.int64], base: str, residual: str, train: Train
) -> Float:
    out = np.empty(len(material.y))
    for fold in np.unique(folds):
        held = folds == fold
        parts = _fitted(material.take(~held), base, residual, train)
        own = material.take(held)
        out[held] = combined(*parts, own.bases[base], own.genes, own.trees)
    return out


def _fitted(
    material: Material, base: str, residual: str, train: Train
) -> tuple[Base, LinearFit | None, Boosted | None]:
    fit = material.fits[base](material.bases[base], material.y)
    # what the base says of a row that it was not fitted on: in-sample residuals are too small
    left = material.y / fit.left_out
    if residual == _RIDGE:
        return fit, LinearFit.of(material.genes, left, log=True), None
    if residual == _TREES:
        return fit, None, train(with_base(material.trees, fit.left_out), np.log(left))
    return fit, None, None


def combined(
    fit: Base,
    ridge: LinearFit | None,
    trees: Boosted | None,
    base: Float,
    genes: Float,
    seen: Single,
) -> Float:
    """Return milliseconds from the columns of each part, shape (n,)."""
    value = fit.predict(base)
    if ridge is not None:
        value = value * ridge.predict(genes)
    if trees is not None:
        value = value * np.exp(trees.predict(with_base(seen, value)))
    return value


def with_base(x: Single, value: Float) -> Single:
    """Append the logarithm of the base's value as the last column."""
    out = np.empty((len(x), x.shape[1] + 1), np.float32)
    out[:, :-1] = x
    out[:, -1] = np.log(value)
    return out


def _error(y: Float, p: Float) -> float:
    return Accuracy.of(y, p).mape


def _label(base: str, residual: str) -> str:
    return base if residual == "none" else f"{base} + {residual}"
