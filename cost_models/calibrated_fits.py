"""From proxy values to qualities: two regressions, and leaving out one subnet at a time.

Isotonic regression takes one proxy and asks for its direction alone. Ridge regression takes several
proxies together with counts of the network, which is what made proxies useful in NAS-Bench-Suite-
Zero (Krishnakumar et al., 2022): features of a regression rather than scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from hwnas.calibration.isotonic import IsotonicFit

__all__ = ["KINDS", "Fit", "Kind", "Monotone", "Ridge", "fit_of", "left_out"]

Float = NDArray[np.float64]
Kind = Literal["isotonic", "ridge"]
_PENALTIES = np.logspace(-3, 4, 29)


class Fit(Protocol):
    """A regression of qualities y (n,) on columns x (n, p)."""

    def predict(self, x: Float) -> Float:
        """Return qualities, shape (n,)."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; every float survives to the last bit."""
        ...


@dataclass(frozen=True, eq=False)
class Monotone:
    """A monotone curve of the first column."""

    curve: IsotonicFit

    @classmethod
    def of(cls, x: Float, y: Float, signs: Sequence[int]) -> Self:
        """Fit the first column; it grows where its sign is 1."""
        return cls(IsotonicFit.of(x[:, 0], y, increasing=signs[0] > 0))

    def predict(self, x: Float) -> Float:
        """Return qualities, shape (n,)."""
        return self.curve.predict(x[:, 0])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; every float survives to the last bit."""
        return self.curve.to_dict()

    @classmethod
    def of_dict(cls, content: dict[str, Any]) -> Self:
        """Read `to_dict` back."""
        return cls(IsotonicFit.of_dict(content))


@dataclass(frozen=True, eq=False)
class Ridge:
    """y = constant + x weights, columns taken as logarithms where they were positive.

    The penalty on standardized columns is the one with the least squared error of leaving one row
    out, r / (1 - h) (Allen's PRESS, Technometrics 1974).

    Attributes:
        logs: Which columns are taken as logarithms, (p,).
        least: Smallest value of each column; a logarithm is taken of no less, (p,).
        weights: (p,).
        constant: Number.
    """

    logs: NDArray[np.bool_]
    least: Float
    weights: Float
    constant: float

    @classmethod
    def of(cls, x: Float, y: Float, signs: Sequence[int]) -> Self:
        """Fit all columns; `signs` do not matter, the weights find them."""
        logs, least = np.asarray((x > 0).all(axis=0), np.bool_), x.min(axis=0)
        z = _scaled(x, logs, least)
        center, spread = z.mean(axis=0), z.std(axis=0)
        spread = np.where(spread > 1e-12 * (1.0 + np.abs(center)), spread, np.inf)
        u, s, vt = np.linalg.svd((z - center) / spread, full_matrices=False)
        mean = float(y.mean())
        projected = u.T @ (y - mean)
        shrink = s**2 / (s**2 + _PENALTIES[:, None])  # (penalties, k)
        hat = np.minimum(1.0 / len(y) + shrink @ (u**2).T, 1.0 - 1e-9)
        rest = (y - mean - (shrink * projected) @ u.T) / (1.0 - hat)
        best = int(np.argmin((rest**2).mean(axis=1)))
        weights = ((s / (s**2 + _PENALTIES[best]) * projected) @ vt) / spread
        return cls(logs, least, weights, mean - float(center @ weights))

    def predict(self, x: Float) -> Float:
        """Return qualities, shape (n,)."""
        # summed row by row in one order: a matrix product gives other last bits for other n
        z = _scaled(x, self.logs, self.least)
        found: Float = np.einsum("ij,j->i", z, self.weights) + self.constant
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; every float survives to the last bit."""
        arrays = {name: getattr(self, name).tolist() for name in ("logs", "least", "weights")}
        return {**arrays, "constant": self.constant}

    @classmethod
    def of_dict(cls, content: dict[str, Any]) -> Self:
        """Read `to_dict` back."""
        return cls(
            np.array(content["logs"], dtype=np.bool_),
            np.array(content["least"], dtype=np.float64),
            np.array(content["weights"], dtype=np.float64),
            float(content["constant"]),
        )


def _scaled(x: Float, logs: NDArray[np.bool_], least: Float) -> Float:
    return np.where(logs, np.log(np.where(logs, np.maximum(x, least), 1.0)), x)


KINDS: Mapping[str, type[Monotone] | type[Ridge]] = {"isotonic": Monotone, "ridge": Ridge}


def fit_of(kind: Kind, x: Float, y: Float, signs: Sequence[int]) -> Fit:
    """Fit columns x (n, p) with the directions `signs` (p,) to qualities y (n,)."""
    return KINDS[kind].of(x, y, signs)


def left_out(kind: Kind, x: Float, y: Float, signs: Sequence[int]) -> Float:
    """Return what a fit without it says of each row, shape (n,)."""
    found = np.empty(len(y))
    for row in range(len(y)):
        others = np.arange(len(y)) != row
        found[row] = fit_of(kind, x[others], y[others], signs).predict(x[row : row + 1])[0]
    return found
