"""Following the hypervolume while a search runs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import ConfigError
from hwnas.search.dominance import non_dominated
from hwnas.search.hypervolume import hypervolume
from hwnas.search.problem import Problem

__all__ = ["FrontTracker"]

FloatArray = NDArray[np.float64]
_MARGIN = 0.1


class FrontTracker:
    """The non-dominated objectives so far and their hypervolume.

    The reference point is given, or set once: the worst values of the first generation in which
    anything could be evaluated, feasible or not, moved outward by a tenth of their range. It stays
    for the whole run, so that the curve can only rise (unless fitted objectives move).
    """

    def __init__(self, problem: Problem, reference_point: Mapping[str, float] | None) -> None:
        """Begin without points.

        Raises:
            ConfigError: the reference point does not name every objective.
        """
        self._problem = problem
        self._front = np.empty((0, len(problem.objectives)))
        self._reference: FloatArray | None = None
        self._hypervolume: float | None = None
        if reference_point is not None:
            names = [objective.name for objective in problem.objectives]
            if sorted(names) != sorted(reference_point):
                raise ConfigError(
                    f"reference point for {', '.join(reference_point)}; expected one number for "
                    f"each of {', '.join(names)}"
                )
            values = np.array([[reference_point[name] for name in names]], dtype=np.float64)
            self._reference = problem.minimized(values)[0]

    @property
    def front_size(self) -> int:
        """How many different points the front has."""
        return len(self._front)

    @property
    def hypervolume(self) -> float | None:
        """Of the front so far; None while it is empty."""
        return self._hypervolume

    @property
    def reference_point(self) -> dict[str, float]:
        """In natural values by objective; empty before anything could be evaluated."""
        return {} if self._reference is None else self._problem.natural(self._reference)

    def update(self, f: FloatArray, feasible: NDArray[np.bool_]) -> None:
        """Add evaluated points, (n, n_obj)."""
        if self._reference is None and len(f):
            extent = f.max(axis=0) - f.min(axis=0)
            outward = np.where(extent > 0, extent, np.maximum(np.abs(f.max(axis=0)), 1.0))
            self._reference = f.max(axis=0) + _MARGIN * outward
        points = np.concatenate((self._front, f[feasible]))
        front = points[non_dominated(points)]
        if self._reference is None or not len(front):
            return
        if self._hypervolume is None or front.tobytes() != self._front.tobytes():
            self._hypervolume = hypervolume(front, self._reference)
        self._front = front

    def restart(self) -> None:
        """Forget the points, keep the reference: fitted objectives have changed."""
        self._front = self._front[:0]
