"""Saying why no design was found, and what came nearest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hwnas.search.designs import Designs
from hwnas.search.limit import Limit

__all__ = ["explain_infeasible"]


def explain_infeasible(designs: Designs, limits: Sequence[Limit], which: str) -> str:
    """Name each limit with the best value seen, and the design nearest to keeping them all.

    `which` says which designs were looked at ("of 200 evaluated", "of the front"). Nearest is the
    smallest sum of violations, each as a share of its bound.
    """
    if len(designs) == 0:
        return f"no design {which}: none could be evaluated"
    lines = [f"no design {which} keeps the limits:"]
    total = np.zeros(len(designs))
    for limit in limits:
        at = designs.position(limit.name)
        judged = limit.judged(designs.values[:, at], designs.lo[:, at], designs.hi[:, at])
        best = int(judged.argmin() if limit.op == "<=" else judged.argmax())
        total += np.maximum(
            limit.violation(designs.values[:, at], designs.lo[:, at], designs.hi[:, at]), 0.0
        )
        lines.append(
            f"  {limit}: the best value seen is {judged[best]:.6g} {designs.columns[at].unit}"
            f"{_end(limit, designs, at, best)} (design {designs.archs[best].id})"
        )
    nearest = designs[int(total.argmin())]
    values = ", ".join(f"{name}={value:.6g}" for name, value in nearest.values.items())
    lines.append(f"  nearest to keeping all: design {nearest.id} with {values}")
    lines.append("loosen a limit, widen the space, or search longer with --max-evaluations")
    return "\n".join(lines)


def _end(limit: Limit, designs: Designs, column: int, row: int) -> str:
    """Say it where the number is the worse end of an interval."""
    ends = designs.hi if limit.op == "<=" else designs.lo
    if limit.on == "point" or np.isnan(ends[row, column]):
        return ""
    return " at the worse end of its interval; --limit-on point holds limits against the value"
