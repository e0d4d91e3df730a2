"""Isotonic regression: the best curve that never turns back.

It brings a score into the unit of what it stands for and asks for nothing but the direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwnas.errors import ConfigError

__all__ = ["IsotonicFit"]

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class IsotonicFit:
    """A monotone curve through knots (`x`, `y`), both of shape (k,), `x` ascending.

    Linear between knots and flat beyond the outermost. The knots are the centers of the steps of
    the least-squares solution, so that the curve is strictly monotone between them and keeps the
    order of scores: centered isotonic regression (Oron and Flournoy, Statistics in
    Biopharmaceutical Research 2017). The steps are those of pool adjacent violators (Ayer et al.,
    Annals of Mathematical Statistics 1955).
    """

    x: Float
    y: Float

    @classmethod
    def of(cls, x: ArrayLike, y: ArrayLike, *, increasing: bool = True) -> Self:
        """Fit scores x (n,) to values y (n,), n >= 1; equal scores share the mean of their values.

        Raises:
            ConfigError: the shapes do not fit, or something is not finite.
        """
        from scipy.optimize import isotonic_regression

        score, value = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        if score.ndim != 1 or score.shape != value.shape or not score.size:
            raise ConfigError(
                f"isotonic regression of shapes {score.shape} and {value.shape}; expected two "
                "lists of one length, not empty"
            )
        if not (np.isfinite(score).all() and np.isfinite(value).all()):
            raise ConfigError("values to fit must be finite; leave out what failed")
        at, inverse = np.unique(score, return_inverse=True)
        counts = np.bincount(inverse).astype(np.float64)
        means = np.bincount(inverse, weights=value) / counts
        found = isotonic_regression(means, weights=counts, increasing=increasing)
        starts = np.asarray(found.blocks[:-1], dtype=np.intp)
        centers = np.add.reduceat(counts * at, starts) / np.add.reduceat(counts, starts)
        return cls(centers, np.asarray(found.x, dtype=np.float64)[starts])

    def predict(self, x: ArrayLike) -> Float:
        """Return the values of the curve at scores x (n,), shape (n,)."""
        return np.interp(np.asarray(x, dtype=np.float64), self.x, self.y)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; every float survives to the last bit."""
        return {"x": self.x.tolist(), "y": self.y.tolist()}

    @classmethod
    def of_dict(cls, content: dict[str, Any]) -> Self:
        """Read `to_dict` back."""
        return cls(*(np.array(content[name], dtype=np.float64) for name in ("x", "y")))
