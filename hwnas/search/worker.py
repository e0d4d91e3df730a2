"""What runs inside a worker process: build from plain JSON, evaluate, answer in plain JSON."""

from __future__ import annotations

import importlib
import logging
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np

from hwnas.cost import CostModel
from hwnas.search.outcomes import Outcomes
from hwnas.search.pricing import price
from hwnas.space import SearchSpace

__all__ = ["WorkerSpec", "Workplace"]

_log = logging.getLogger(__name__)

Answer = dict[str, Any]
# Set in worker processes only, never in the parent.
_spec: dict[str, Any] = {}
_place: Workplace | None = None


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Everything that a worker needs, as plain JSON.

    `builder` is `module:function`; it is called with this spec's `arguments` and returns a
    `Workplace`. With `breakdown` workers record cost by part.
    """

    builder: str
    arguments: Mapping[str, Any]
    breakdown: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Workplace:
    """A space and the cost models on it, live, inside one process."""

    space: SearchSpace
    models: Mapping[str, CostModel]


def start_worker(spec: Mapping[str, Any]) -> None:
    """Initialize a worker process; it builds its workplace at the first batch.

    Ctrl-C is the parent's business; a parent that dies without a word takes its workers along.
    """
    global _spec  # noqa: PLW0603 - the initializer of a process pool has no other way
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _spec = dict(spec)


def open_workplace(spec: Mapping[str, Any]) -> Workplace:
    """Build the workplace of a `WorkerSpec.to_dict()`."""
    module, _, function = str(spec["builder"]).partition(":")
    made = getattr(importlib.import_module(module), function)(**spec["arguments"])
    return cast(Workplace, made)


def evaluate_rows(rows: list[list[int]]) -> Answer:
    """Evaluate choice indices, (n, n_var) as lists, in a worker process.

    Raises:
        HwnasError: the workplace cannot be built.
    """
    global _place  # noqa: PLW0603 - built once a process
    if _place is None:
        _place = open_workplace(_spec)
    return answer(_place, rows, breakdown=bool(_spec["breakdown"]))


def answer(place: Workplace, rows: list[list[int]], *, breakdown: bool = False) -> Answer:
    """Evaluate choice indices at a workplace, for any engine's worker.

    The answer is plain JSON: numbers that are unknown are None.
    """
    x = np.array(rows, dtype=np.int64).reshape(len(rows), place.space.n_var)
    found = price(place.models, place.space.decode(x), breakdown=breakdown)
    return {
        "names": list(found.names),
        "values": _plain(found.values),
        "lo": _plain(found.lo),
        "hi": _plain(found.hi),
        "messages": list(found.messages),
        "fidelity": list(found.fidelity),
        "seconds": found.seconds.tolist(),
        "breakdowns": [dict(parts) for parts in found.breakdowns],
    }


def outcomes_of(found: Answer) -> Outcomes:
    """Read an answer back."""
    n, m = len(found["messages"]), len(found["names"])
    values, lo, hi = (
        np.array(found[key], dtype=np.float64).reshape(n, m) for key in ("values", "lo", "hi")
    )
    return Outcomes(
        tuple(found["names"]),
        values,
        lo,
        hi,
        tuple(found["messages"]),
        tuple(found["fidelity"]),
        np.array(found["seconds"], dtype=np.float64),
        tuple(found["breakdowns"]),
    )


def _plain(table: np.ndarray[Any, np.dtype[np.float64]]) -> list[list[float | None]]:
    return [[None if math.isnan(v) else v for v in row] for row in table.tolist()]


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
