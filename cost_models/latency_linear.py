"""Linear regression of latency on columns that add up, with a penalty chosen by leaving one out.

    y ~ c0 + X (w0 + w),  minimizing sum ((y - p) / y)^2 + lambda |scaled w|^2

w0 is what the columns are worth before anything is learned: 1 for times of kernels, 0 else. Errors
count relative to y, because reports and intervals do. `log` regresses ln y instead, for spaces in
which one gene multiplies what the others add. All penalties are tried at once through one singular
value decomposition, and leave-one-out residuals are exact: r / (1 - h). Rows far off count less, by
Huber's weights. Sources: Allen's PRESS ("The relationship between variable selection and data
augmentation", Technometrics 1974); Huber, "Robust estimation of a location parameter", 1964.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["LinearFit", "least_of"]

Float = NDArray[np.float64]
_PENALTIES = np.logspace(-4, 4, 17)
_FREE = 1e3  # scale of the constant, which makes its penalty vanish
_AS_GOOD = 1.005
_ROUNDS = 30
_SETTLED = 0.02  # change of a weight of a row
_HUBER = 1.5
_STEADIEST = 0.002  # no clock and no device repeats better
_LEAST_SHARE = 0.25  # of the smallest label: an additive fit may say 0 or less, a time may not


@dataclass(frozen=True, eq=False)
class LinearFit:
    """A fitted regression; every array has shape (p,) but `left_out` (n,) and `spread` (p, k).

    Attributes:
        log: Whether ln y is regressed.
        constant: c0.
        weights: w0 + w.
        center: Means of the columns.
        scale: Their standard deviations, 1 where a column does not vary.
        spread: |scaled x spread|^2 is the leverage of x.
        most_leverage: Largest leverage of a fitted row on a fit without it.
        least: No prediction is below this.
        left_out: Prediction of each row by a fit without it, ms.
    """

    log: bool
    constant: float
    weights: Float
    center: Float
    scale: Float
    spread: NDArray[np.floating[Any]]
    most_leverage: float
    least: float
    left_out: Float

    @classmethod
    def of(
        cls, x: Float, y: Float, *, log: bool = False, prior: Float | None = None,
        penalties: Float = _PENALTIES,
    ) -> Self:  # fmt: skip
        """Fit columns x (n, p) to times y (n,), all positive."""
        w0 = np.zeros(x.shape[1]) if prior is None else prior
        used, trust = np.ones(x.shape[1], np.bool_), np.ones(len(y))
        for _ in range(_ROUNDS):
            found = _Solved.of(np.where(used, x, 0.0), y, log, np.where(used, w0, 0.0), penalties,
                               trust)  # fmt: skip
            # a time with a weight below 0 would make networks faster by what it adds: it is left
            # out, since a search would find that
            negative = used & (w0 > 0) & (found.weights < 0)
            trusted = trust if negative.any() else _trust(y, found.left_out)
            if not negative.any() and np.abs(trusted - trust).max() < _SETTLED:
                break
            used, trust = used & ~negative, trusted
        least = least_of(y)
        plain = (x - found.center) / found.scale
        # float32 is enough for a leverage, and half of the file
        spread = _spread(plain, found.penalty).astype(np.float32)
        own = np.minimum(((plain @ spread) ** 2).sum(axis=1), 1.0 - 1e-9)
        # what each row would have without being fitted on itself, so that it is like a new one
        most = float((own / (1.0 - own)).max())
        return cls(
            log, found.constant, found.weights, found.center, found.scale, spread, most, least,
            np.maximum(found.left_out, least),
        )  # fmt: skip

    def predict(self, x: Float) -> Float:
        """Return milliseconds for columns x (n, p), shape (n,)."""
        # summed row by row in one order: a matrix product gives other last bits for other n
        value = np.einsum("ij,j->i", x, self.weights) + self.constant
        out: Float = np.maximum(np.exp(value) if self.log else value, self.least)
        return out

    def beyond(self, x: Float) -> NDArray[np.bool_]:
        """Where x (n, p) has more leverage than any fitted row on a fit without it, shape (n,)."""
        leverage = ((((x - self.center) / self.scale) @ self.spread) ** 2).sum(axis=1)
        return np.asarray(leverage > self.most_leverage * (1.0 + 1e-6))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays that `of_arrays` reads back to the last bit."""
        return {name: np.asarray(getattr(self, name)) for name in self.__dataclass_fields__}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Read `to_arrays` back."""
        values = {name: arrays[name] for name in cls.__dataclass_fields__}
        plain: dict[str, Any] = {n: v.item() if v.ndim == 0 else v for n, v in values.items()}
        return cls(**plain)


@dataclass(frozen=True, eq=False)
class _Solved:
    """The regression with its best penalty; `left_out` (n,) may be 0 or less."""

    weights: Float
    constant: float
    center: Float
    scale: Float
    penalty: float
    left_out: Float

    @classmethod
    def of(
        cls, x: Float, y: Float, log: bool, prior: Float, penalties: Float, trust: Float
    ) -> Self:
        """Solve for every penalty at once; `trust` (n,) are weights of the rows."""
        center, scale = x.mean(axis=0), x.std(axis=0)
        scale = np.where(scale > 1e-12 * (1.0 + np.abs(center)), scale, np.inf)
        target = np.log(y) if log else y
        size = 1.0 if log else float(y.mean())
        # what an error is relative to
        by = (np.ones_like(y) if log else y) / np.sqrt(trust)
        rows = np.concatenate([np.full((len(y), 1), _FREE), (x - center) / scale], axis=1)
        rows *= (size / by)[:, None]
        wanted = (target - x @ prior) / by
        u, s, vt = np.linalg.svd(rows, full_matrices=False)
        projected = u.T @ wanted
        shrink = s**2 / (s**2 + penalties[:, None])  # (penalties, k)
        hat = np.minimum(shrink @ (u**2).T, 1.0 - 1e-9)
        loo = (wanted - (shrink * projected) @ u.T) / (1.0 - hat)
        every = (shrink / np.maximum(s, 1e-300) * projected) @ vt * size  # (penalties, p + 1)
        errors = np.abs(loo).mean(axis=1)
        # the strongest penalty that is about as good as the best: the rest is chance
        best = int(np.flatnonzero(errors <= errors.min() * _AS_GOOD).max())
        weights = every[best, 1:] / scale
        constant = float(every[best, 0] * _FREE - weights @ center)
        left_out = target - loo[best] * by
        return cls(
            prior + weights, constant, center, scale, float(penalties[best]),
            np.exp(left_out) if log else left_out,
        )  # fmt: skip


def least_of(y: Float) -> float:
    """The least that a fit on times y (n,) may say."""
    return _LEAST_SHARE * float(y.min())


def _trust(y: Float, left_out: Float) -> Float:
    """Huber's weights (n,): 1 within 1.5 robust standard deviations, less beyond.

    A time that another process disturbed is too long, often by far.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.log(y / left_out)
    apart = np.where(np.isfinite(apart), apart, 0.0)
    apart = np.abs(apart - np.median(apart))
    usual = max(_STEADIEST, 1.4826 * float(np.median(apart)))
    out: Float = np.minimum(1.0, _HUBER * usual / np.maximum(apart, 1e-12))
    return out


def _spread(plain: Float, penalty: float) -> Float:
    """Matrix (p, k) whose product with a scaled row has the row's leverage as squared length."""
    _, s, vt = np.linalg.svd(plain, full_matrices=False)
    kept = s > 1e-9 * max(float(s[0]) if s.size else 0.0, 1e-300)
    out: Float = vt[kept].T / np.sqrt(s[kept] ** 2 + penalty)
    return out
