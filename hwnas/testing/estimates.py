"""The promise of a cost model that gives an interval with each value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import numpy as np

from hwnas.cost import Fidelity
from hwnas.testing.cost_trial import CostTrial

__all__ = ["estimate_holds_value"]


def estimate_holds_value(trial: CostTrial) -> Iterator[str]:
    """Yield what is wrong with `estimate`: values, ends, level, fidelity, unit."""
    batch = trial.model.estimate(trial.archs)
    shape = trial.values.shape
    if not trial.agree(batch.value, trial.values):
        yield "estimate(archs).value differs from evaluate(archs)"
    for name, end, sign in (("lo", batch.lo, 1.0), ("hi", batch.hi, -1.0)):
        if end is None:
            continue
        if end.shape != shape or not np.isfinite(end).all():
            yield f"{name} must be finite and of shape {shape}, or None where it is not known"
        elif (sign * (batch.value - end) < 0).any():
            yield f"a value lies beyond {name}; lo <= value <= hi must hold"
    if (batch.lo is None) != (batch.hi is None):
        yield "one end of the interval is given and the other is None"
    if batch.level is not None and not 0 < batch.level <= 1:
        yield f"level is {batch.level}; expected a share between 0 and 1, or None"
    if batch.extrapolating.shape != shape or batch.extrapolating.dtype != np.bool_:
        yield f"extrapolating must be bool of shape {shape}"
    if batch.fidelity not in get_args(Fidelity):
        yield f"fidelity is {batch.fidelity!r}; expected one of {', '.join(get_args(Fidelity))}"
    if batch.unit != trial.model.unit:
        yield f"estimate is in {batch.unit!r}, the model in {trial.model.unit!r}"
    if not batch.model_version:
        yield "model_version is empty"
