"""Evaluating cost models on a batch so that a failure hurts only the architecture that fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import CostModel, Estimating
from hwnas.search.outcomes import Outcomes
from hwnas.space import Archs

__all__ = ["price"]

_log = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]


@dataclass(slots=True)
class _Column:
    """One model's answers; NaN and a message where it failed."""

    value: FloatArray
    lo: FloatArray
    hi: FloatArray
    messages: dict[int, str]
    fidelity: str = ""


def price(models: Mapping[str, CostModel], archs: Archs, *, breakdown: bool = False) -> Outcomes:
    """Evaluate every model on every architecture.

    A model is called once with the whole batch. If that raises, or gives another shape than (n,),
    the batch is halved until the architectures that fail stand alone; those get a message, and so
    do those whose value is not finite. An interval without width is no interval. With `breakdown`,
    models that can split a cost into parts do so.
    """
    start = time.perf_counter()
    n, m = len(archs), len(models)
    values, lo, hi = np.empty((n, m)), np.empty((n, m)), np.empty((n, m))
    problems: dict[int, list[str]] = {}
    fidelity: list[str] = []
    for j, (name, model) in enumerate(models.items()):
        column = _priced(model, archs)
        values[:, j], lo[:, j], hi[:, j] = column.value, column.lo, column.hi
        fidelity.append(column.fidelity)
        for row, message in column.messages.items():
            problems.setdefault(row, []).append(f"{name}: {message}")
    breakdowns = tuple(_parts(models, archs, row) if breakdown else {} for row in range(n))
    seconds = np.full(n, (time.perf_counter() - start) / max(n, 1))
    messages = tuple("; ".join(problems.get(row, ())) for row in range(n))
    return Outcomes(tuple(models), values, lo, hi, messages, tuple(fidelity), seconds, breakdowns)


def _priced(model: CostModel, archs: Archs) -> _Column:
    n = len(archs)
    column = _Column(np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan), {})
    pending = [(0, n)] if n else []
    while pending:
        start, stop = pending.pop()
        try:
            # The same object for every model, so that models can share what they index by it.
            some = archs if (start, stop) == (0, n) else archs[start:stop]
            _fill(column, start, stop, _answer(model, some))
        except Exception as error:
            if stop - start == 1:
                _log.debug("cost model %s failed", model.name, exc_info=True)
                column.messages[start] = _said(error)
            else:
                middle = (start + stop) // 2
                pending += [(middle, stop), (start, middle)]
    return column


def _answer(model: CostModel, archs: Archs) -> tuple[FloatArray, FloatArray, FloatArray, str]:
    """Return value, lo, hi and fidelity; lo and hi are NaN where the model gives no interval."""
    n = len(archs)
    unknown = np.full(n, np.nan)
    if not isinstance(model, Estimating):
        value = _checked(model.evaluate(archs), n)
        return value, unknown, unknown, str(getattr(model, "fidelity", "analytic"))
    batch = model.estimate(archs)
    value = _checked(batch.value, n)
    lo = unknown if batch.lo is None else _checked(batch.lo, n)
    hi = unknown if batch.hi is None else _checked(batch.hi, n)
    return value, lo, hi, str(batch.fidelity)


def _checked(found: Any, n: int) -> FloatArray:
    array = np.asarray(found, dtype=np.float64)
    if array.shape != (n,):
        raise ValueError(
            f"answered with shape {array.shape} for {n} architectures; expected ({n},)"
        )
    return array


def _fill(
    column: _Column,
    start: int,
    stop: int,
    answer: tuple[FloatArray, FloatArray, FloatArray, str],
) -> None:
    value, lo, hi, column.fidelity = answer
    good = np.isfinite(value)
    column.value[start:stop] = np.where(good, value, np.nan)
    whole = good & np.isfinite(lo) & np.isfinite(hi) & (lo < hi)  # two ends, or none
    column.lo[start:stop] = np.where(whole, lo, np.nan)
    column.hi[start:stop] = np.where(whole, hi, np.nan)
    for row in np.flatnonzero(~good).tolist():
        column.messages[start + row] = f"answered {value[row]}; expected a finite number"


def _said(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _parts(models: Mapping[str, CostModel], archs: Archs, row: int) -> dict[str, dict[str, float]]:
    parts: dict[str, dict[str, float]] = {}
    for name, model in models.items():
        split: Callable[[Any], Mapping[str, float]] | None = getattr(model, "breakdown", None)
        if split is None:
            continue
        try:
            parts[name] = {part: float(cost) for part, cost in split(archs[row]).items()}
        except Exception:
            _log.debug("cost model %s gave no breakdown", name, exc_info=True)
    return parts
