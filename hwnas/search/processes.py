"""Evaluations spread over processes of this machine."""

from __future__ import annotations

import json
import multiprocessing
import os
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import pairwise

from hwnas.errors import RunError
from hwnas.search.outcomes import Outcomes
from hwnas.search.worker import Answer, WorkerSpec, evaluate_rows, outcomes_of, start_worker
from hwnas.space import Archs

__all__ = ["ProcessExecutor"]


class ProcessExecutor:
    """Evaluates in `workers` processes, each with its own space and cost models.

    Processes are spawned, so a script that uses this needs `if __name__ == "__main__"`. Worth it
    from about a millisecond an architecture; analytic costs are faster in one process.
    """

    def __init__(
        self, spec: WorkerSpec, names: tuple[str, ...], *, workers: int | None = None
    ) -> None:
        """Describe the pool; processes start with the first batch.

        Args:
            spec: what each worker builds.
            names: the cost models that it evaluates, in the run's order.
            workers: number of processes; the number of cores by default.

        Raises:
            TypeError: the spec is not plain JSON.
        """
        self._spec = json.loads(json.dumps(spec.to_dict()))
        self._names = names
        self._workers = workers or os.cpu_count() or 1
        self._pool: ProcessPoolExecutor | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The cost models that it evaluates."""
        return self._names

    def map(self, archs: Archs) -> Outcomes:
        """Evaluate a batch, in equal consecutive parts.

        Raises:
            RunError: a worker process died.
            HwnasError: a worker could not build its space or cost models.
        """
        rows = archs.space.encode(archs).tolist()
        parts = min(self._workers, len(rows)) or 1
        edges = [len(rows) * i // parts for i in range(parts + 1)]
        try:
            pool = self._started()
            futures: list[Future[Answer]] = [
                pool.submit(evaluate_rows, rows[a:b]) for a, b in pairwise(edges)
            ]
            return Outcomes.join([outcomes_of(future.result()) for future in futures])
        except BrokenProcessPool as error:
            self.close()
            raise RunError(
                "a worker process died (out of memory, or killed); what was evaluated is saved: "
                "resume with fewer --workers, or with --executor serial"
            ) from error

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=start_worker,
                initargs=(self._spec,),
            )
        return self._pool

    def close(self) -> None:
        """Stop the workers."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
