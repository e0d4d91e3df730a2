"""Where a search evaluates: in this process, or in workers that resolve the same configuration."""

from __future__ import annotations

from typing import Any

from hwnas.config import make_config
from hwnas.search import Executor, ProcessExecutor, WorkerSpec, Workplace, executed_names
from hwnas.search.loop import BREAKDOWN_EVALUATIONS
from hwnas.workflows.resolve import Resolved, evaluations_of, resolve

__all__ = ["build_workplace", "make_executor"]


def make_executor(live: Resolved, *, recorded: bool) -> Executor | None:
    """Return the executor of the configuration; None stands for this process.

    Costs by block are recorded where there is a run folder (`recorded`) and the run is short.
    """
    if live.config.executor == "serial":
        return None
    spec = WorkerSpec(
        "hwnas.workflows.workplace:build_workplace",
        {"config": live.config.model_dump(mode="json")},
        breakdown=recorded and evaluations_of(live) <= BREAKDOWN_EVALUATIONS,
    )
    return ProcessExecutor(spec, executed_names(live.problem), workers=live.config.workers)


def build_workplace(*, config: dict[str, Any]) -> Workplace:
    """Build space and cost models inside a worker, from the configuration alone."""
    live = resolve(make_config("the run's configuration", config))
    names = executed_names(live.problem)
    models = {c.name: c.model for c in live.problem.columns if c.name in names}
    return Workplace(live.space, models)
