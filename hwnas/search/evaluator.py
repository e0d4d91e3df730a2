"""Evaluating each architecture once: memory first, then the run folder, then the cost models."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hwnas.records import RunFolder
from hwnas.search.executor import Executor
from hwnas.search.failures import FailurePolicy, FailureWatch
from hwnas.search.ledger import Ledger, row_keys
from hwnas.search.outcomes import Outcomes
from hwnas.search.problem import Problem
from hwnas.search.stored import by_key, to_evaluations, to_outcomes
from hwnas.space import Archs

__all__ = ["Evaluator"]

IntArray = NDArray[np.intp]
_FIRST_CHUNK = 8
_CHUNK_SECONDS = 2.0


class Evaluator:
    """Turns architectures into rows of a ledger.

    What the run folder already holds is served from there, failures included, so that a resumed run
    repeats the first one. What is new goes to the executor in chunks of about two seconds and is
    appended to the folder after each, so that a kill loses no more than that.
    """

    def __init__(
        self,
        problem: Problem,
        executor: Executor,
        *,
        folder: RunFolder | None = None,
        policy: FailurePolicy | None = None,
    ) -> None:
        """Read what the folder holds.

        Raises:
            RunError: the folder holds an architecture of another space.
        """
        self.ledger = Ledger(problem.space, problem.names)
        self.executed = 0
        self._executor = executor
        self._folder = folder
        self._watch = FailureWatch(policy or FailurePolicy())
        self._chunk = _FIRST_CHUNK
        self._stored = by_key(problem.space, folder.evaluations()) if folder is not None else {}

    @property
    def failed(self) -> int:
        """How many architectures failed."""
        return self._watch.failed

    def evaluate(self, archs: Archs) -> IntArray:
        """Return the ledger row of each architecture, (n,), evaluating those that are new.

        Raises:
            CostError: too many failures.
            RunError: the run folder cannot be written.
        """
        keys = row_keys(archs)
        new: dict[bytes, int] = {}
        for i, key in enumerate(keys):
            if self.ledger.row(key) is None:
                new.setdefault(key, i)
        if new:
            fresh = archs if len(new) == len(archs) else archs.take(list(new.values()))
            outcomes = self._outcomes(fresh, list(new))
            self.ledger.add(fresh, outcomes)
            self._watch.note(fresh, outcomes.messages)
        return np.array([self.ledger.row(key) for key in keys], dtype=np.intp)

    def _outcomes(self, archs: Archs, keys: list[bytes]) -> Outcomes:
        """Look up what is stored, execute the rest, and put both into the order of `archs`."""
        known = [i for i, key in enumerate(keys) if key in self._stored]
        stored = to_outcomes([self._stored[keys[i]] for i in known], self._executor.names)
        if len(known) == len(keys):
            return stored
        fresh = [i for i, key in enumerate(keys) if key not in self._stored]
        first_row = len(self.ledger)
        parts = [stored] if known else []
        for chunk in self._chunks(fresh):
            some = archs if len(chunk) == len(archs) else archs.take(chunk)
            parts.append(self._execute(some, [first_row + i for i in chunk]))
        return Outcomes.join(parts).take(np.argsort([*known, *fresh], kind="stable"))

    def _chunks(self, rows: list[int]) -> Iterator[list[int]]:
        while rows:
            size = self._chunk  # `_execute` has set it by the time of the next chunk
            yield rows[:size]
            rows = rows[size:]

    def _execute(self, archs: Archs, indexes: list[int]) -> Outcomes:
        start = time.perf_counter()
        outcomes = self._executor.map(archs)
        seconds = max(time.perf_counter() - start, 1e-9)
        self._chunk = max(_FIRST_CHUNK, int(_CHUNK_SECONDS * len(archs) / seconds))
        self.executed += len(archs)
        if self._folder is not None:
            self._folder.append(*to_evaluations(archs, outcomes, indexes))
        return outcomes
