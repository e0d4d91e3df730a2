"""Linear regression of latency on columns that add up, with a penalty chosen by leaving one out.

    y ~ c0 + X (w0 + w),  minimizing sum ((y - p) / y)^2 + lambda |scaled w|^2

w0 is what the columns are worth before anything is learned: 1 for times of kernels, 0 else. Errors
count relative to y, because reports and intervals do. `log` regresses ln y instead, for spaces in
which one gene multiplies what the others add. All penalties are tried at once through one singular
value decomposition, and leave-one-out residuals are exact: r / (1 - h). Source: Allen's PRESS
("The relationship between variable selection and data augmentation", Technometrics 1974).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["LinearFit"]

Float = NDArray[np.float64]
_PENALTIES = np.logspace(-4, 4, 17)
_FREE = 1e3  # scale of the constant, which makes its penalty vanish
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
        most_leverage: Largest leverage of a row that was fitted on.
        least: No prediction is below this.
        left_out: Prediction of each row by a fit without it, ms.
    """

    log: bool
    constant: float
    weights: Float
    center: Float
    scale: Float
    spread: Float
    most_leverage: float
    least: float
    left_out: Float

    @classmethod
    def of(cls, x: Float, y: Float, *, log: bool = False, prior: Float | None = None) -> Self:
        """Fit columns x (n, p) to times y (n,), all positive."""
        w0 = np.zeros(x.shape[1]) if prior is None else prior
        center, scale = x.mean(axis=0), x.std(axis=0)
        scale = np.where(scale > 1e-12 * (1.0 + np.abs(center)), scale, np.inf)
        target = np.log(y) if log else y
        size = 1.0 if log else float(y.mean())
        by = np.ones_like(y) if log else y  # what an error is relative to
        rows = np.concatenate([np.full((len(y), 1), _FREE), (x - center) / scale], axis=1)
        rows *= (size / by)[:, None]
        wanted = (target - x @ w0) / by
        u, s, vt = np.linalg.svd(rows, full_matrices=False)
        projected = u.T @ wanted
        shrink = s**2 / (s**2 + _PENALTIES[:, None])  # (penalties, k)
        hat = np.minimum(shrink @ (u**2).T, 1.0 - 1e-9)
        loo = (wanted - (shrink * projected) @ u.T) / (1.0 - hat)
        every = (shrink / np.maximum(s, 1e-300) * projected) @ vt * size  # (penalties, p + 1)
        best = _best(np.abs(loo).mean(axis=1), w0 + every[:, 1:] / scale, w0)
        solved = every[best]
        weights = w0 + solved[1:] / scale
        constant = float(solved[0] * _FREE - (solved[1:] / scale) @ center)
        least = _LEAST_SHARE * float(y.min())
        left_out = np.exp(target - loo[best]) if log else np.maximum(y * (1.0 - loo[best]), least)
        plain = (x - center) / scale
        spread = _spread(plain, float(_PENALTIES[best]))
        most = float(((plain @ spread) ** 2).sum(axis=1).max())
        return cls(
            log, constant, weights, center, scale, spread, most, least, np.maximum(left_out, least)
        )

    def predict(self, x: Float) -> Float:
        """Return milliseconds for columns x (n, p), shape (n,)."""
        # summed row by row in one order: a matrix product gives other last bits for other n
        value = np.einsum("ij,j->i", x, self.weights) + self.constant
        out: Float = np.maximum(np.exp(value) if self.log else value, self.least)
        return out

    def beyond(self, x: Float) -> NDArray[np.bool_]:
        """Where x (n, p) has more leverage than any row that was fitted on."""
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


def _best(errors: Float, weights: Float, prior: Float) -> int:
    """The penalty with the least error whose weights of times (prior above 0) are not negative.

    A time with a negative weight would make a network faster by what it adds; a search finds that.
    """
    allowed = (weights[:, prior > 0] >= 0.0).all(axis=1)
    if not allowed.any():
        return len(errors) - 1
    return int(np.argmin(np.where(allowed, errors, np.inf)))


def _spread(plain: Float, penalty: float) -> Float:
    """Matrix (p, k) whose product with a scaled row has the row's leverage as squared length."""
    _, s, vt = np.linalg.svd(plain, full_matrices=False)
    kept = s > 1e-9 * max(float(s[0]) if s.size else 0.0, 1e-300)
    out: Float = vt[kept].T / np.sqrt(s[kept] ** 2 + penalty)
    return out
