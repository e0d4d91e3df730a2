"""The loop that drives any algorithm: ask, evaluate, refit, tell, report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import ConfigError, HwnasError, InfeasibleError, Interrupted
from hwnas.records import RunFolder
from hwnas.search.algorithm import Algorithm
from hwnas.search.evaluator import Evaluator
from hwnas.search.executor import Executor, SerialExecutor
from hwnas.search.failures import FailurePolicy
from hwnas.search.fitting import Refits, fitted_names
from hwnas.search.infeasible import explain_infeasible
from hwnas.search.ledger import Ledger
from hwnas.search.problem import Problem
from hwnas.search.result import HistoryPoint, Progress, SearchResult
from hwnas.search.summary import all_designs, pareto_front
from hwnas.search.tracking import FrontTracker

__all__ = ["BREAKDOWN_EVALUATIONS", "OnGeneration", "Run", "executed_names"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
OnGeneration = Callable[[Progress], None]
_STATE_SECONDS = 1.0
BREAKDOWN_EVALUATIONS = 2000


def executed_names(problem: Problem) -> tuple[str, ...]:
    """The cost models that an executor evaluates: all columns but those fitted meanwhile."""
    refitted = fitted_names(problem)
    return tuple(name for name in problem.names if name not in refitted)


class _Told:
    """The ledger as an algorithm sees it: minimized."""

    def __init__(self, problem: Problem, ledger: Ledger) -> None:
        self._problem = problem
        self._ledger = ledger

    def f(self, rows: IntArray) -> FloatArray:
        return self._problem.minimized(self._ledger.values[rows])

    def g(self, rows: IntArray) -> FloatArray:
        ledger = self._ledger
        return self._problem.constraints(ledger.values[rows], ledger.lo[rows], ledger.hi[rows])

    def ok(self, rows: IntArray) -> NDArray[np.bool_]:
        return np.asarray(~np.isnan(self._ledger.values[rows]).any(axis=1))


class Run:
    """One search from the first question to the result.

    With a run folder, evaluations are appended as they arrive and `state.json` follows at most once
    a second. Driving the same algorithm over the same folder again is how a run is resumed: what
    the folder holds is not evaluated again.
    """

    def __init__(
        self,
        problem: Problem,
        algorithm: Algorithm,
        *,
        max_evaluations: int,
        executor: Executor | None = None,
        folder: RunFolder | None = None,
        on_generation: OnGeneration | None = None,
        reference_point: Mapping[str, float] | None = None,
        policy: FailurePolicy | None = None,
    ) -> None:
        """Put the parts together.

        Raises:
            ConfigError: the budget is empty, or the executor evaluates other cost models.
        """
        if max_evaluations < 1:
            raise ConfigError(f"max_evaluations={max_evaluations}; expected at least 1")
        expected = executed_names(problem)
        if executor is not None and tuple(executor.names) != expected:
            raise ConfigError(
                f"the executor evaluates {', '.join(executor.names)}; expected "
                f"{', '.join(expected)}"
            )
        self._problem = problem
        self._algorithm = algorithm
        self._budget = max_evaluations
        self._folder = folder
        self._on_generation = on_generation
        self._refits = Refits(
            problem,
            planned=min(max_evaluations, problem.space.size()),
            folder=folder,
            on_real=self._report,
        )
        self._tracker = FrontTracker(problem, reference_point)
        self._evaluator = Evaluator(
            problem, self._serial() if executor is None else executor, folder=folder, policy=policy
        )
        self._told = _Told(problem, self._evaluator.ledger)
        self._history: list[HistoryPoint] = []
        self._began = self._state_written = time.monotonic()

    def _serial(self) -> SerialExecutor:
        """Evaluate here; costs by part take longer than the costs, so long runs go without."""
        names = executed_names(self._problem)
        models = {c.name: c.model for c in self._problem.columns if c.name in names}
        breakdown = self._folder is not None and self._budget <= BREAKDOWN_EVALUATIONS
        return SerialExecutor(models, breakdown=breakdown)

    def result(self) -> SearchResult:
        """Run to the end.

        Raises:
            InfeasibleError: no design keeps the limits.
            CostError: too many designs failed.
            RunError: the run folder cannot be written.
            Interrupted: the user stopped the run.
        """
        with self._leaving_state():
            stopped: Literal["budget", "exhausted"] = "budget"
            while len(self._evaluator.ledger) < self._budget:
                if not self._generation():
                    stopped = "exhausted"
                    break
            result = self._summary(stopped)
            if self._folder is not None:
                self._folder.write_text("front.csv", result.front.to_csv())
                self._folder.write_text("front.json", result.front.to_json())
            return result

    def _generation(self) -> bool:
        ledger = self._evaluator.ledger
        archs = self._algorithm.ask(self._budget - len(ledger))
        if len(archs) == 0:
            return False
        rows = self._evaluator.evaluate(archs)
        self._refits.update(ledger)
        self._algorithm.tell(rows, self._told)
        self._track(rows)
        self._report()
        if self._folder is not None and time.monotonic() - self._state_written > _STATE_SECONDS:
            self._write_state("running")
        return True

    def _report(self) -> None:
        if self._on_generation is not None:
            self._on_generation(self._progress())

    def _track(self, rows: IntArray) -> None:
        if len(self._refits):
            self._tracker.restart()
            rows = np.arange(len(self._evaluator.ledger))
        good = rows[self._told.ok(rows)]
        self._tracker.update(self._told.f(good), self._feasible(good))
        self._history.append(HistoryPoint(len(self._evaluator.ledger), self._tracker.hypervolume))

    def _feasible(self, rows: IntArray) -> NDArray[np.bool_]:
        return np.asarray((self._told.g(rows) <= 0).all(axis=1))

    def _progress(self) -> Progress:
        done = len(self._evaluator.ledger)
        elapsed = max(time.monotonic() - self._began, 1e-9)
        rate = self._evaluator.executed / elapsed if self._evaluator.executed else None
        return Progress(
            generation=len(self._history),
            evaluations=done,
            max_evaluations=self._budget,
            failed=self._evaluator.failed,
            real_evaluations=self._refits.real_evaluations,
            front_size=self._tracker.front_size,
            hypervolume=self._tracker.hypervolume,
            evaluations_per_s=rate,
            seconds_left=(self._budget - done) / rate if rate else None,
        )

    def _summary(self, stopped: Literal["budget", "exhausted"]) -> SearchResult:
        ledger = self._evaluator.ledger
        evaluated = all_designs(self._problem, ledger)
        good = np.flatnonzero(ledger.ok)
        feasible = self._feasible(good)
        if not feasible.any() or self._tracker.hypervolume is None:
            which = f"of {len(ledger)} evaluated"
            raise InfeasibleError(explain_infeasible(evaluated, self._problem.limits, which))
        return SearchResult(
            front=pareto_front(evaluated, self._told.f(good), feasible),
            evaluated=evaluated,
            feasible=tuple(feasible.tolist()),
            algorithm=self._algorithm.name,
            generations=len(self._history),
            evaluations=len(ledger),
            failed=self._evaluator.failed,
            real_evaluations=self._refits.real_evaluations,
            seconds=time.monotonic() - self._began,
            hypervolume=self._tracker.hypervolume,
            reference_point=self._tracker.reference_point,
            history=tuple(self._history),
            stopped=stopped,
        )

    @contextlib.contextmanager
    def _leaving_state(self) -> Iterator[None]:
        """Write how the run ended, however it ends."""
        try:
            yield
        except KeyboardInterrupt as error:
            self._write_state("interrupted")
            raise Interrupted(self._farewell()) from error
        except HwnasError as error:
            with contextlib.suppress(HwnasError):  # the first error is the one to tell
                infeasible = isinstance(error, InfeasibleError)
                self._write_state("infeasible" if infeasible else "failed", str(error))
            raise
        self._write_state("finished")

    def _farewell(self) -> str:
        done = f"interrupted after {len(self._evaluator.ledger)} of {self._budget} evaluations"
        if self._folder is None:
            return f"{done}; there is no run folder, so nothing was saved"
        return f"{done}; all are saved: continue with: hwnas resume {self._folder.path}"

    def _write_state(self, status: str, message: str = "") -> None:
        if self._folder is None:
            return
        self._state_written = time.monotonic()
        state = {
            "status": status,
            "message": message,
            "algorithm": self._algorithm.name,
            "generation": len(self._history),
            "evaluations": len(self._evaluator.ledger),
            "max_evaluations": self._budget,
            "failed": self._evaluator.failed,
            "hypervolume": self._tracker.hypervolume,
            "reference_point": self._tracker.reference_point,
        }
        self._folder.write_state({key: v for key, v in state.items() if v not in (None, "")})
