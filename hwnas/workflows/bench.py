"""Speed on this machine, as ratios measured side by side in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from hwnas.config import make_config
from hwnas.search import Problem, run_nsga2
from hwnas.search.baseline import pymoo_default_one_at_a_time
from hwnas.space import Archs
from hwnas.workflows.resolve import resolve

__all__ = ["bench_costs", "bench_search"]

_COSTS = ("bitops", "model_size", "latency")
Row = dict[str, object]


def bench_costs(
    space: str = "sam-vit-t",
    *,
    device: str = "jetson-orin",
    designs: int = 100_000,
    repeats: int = 5,
    seed: int = 0,
) -> list[Row]:
    """Designs a second that BitOPs, size and latency price, together and alone.

    Each pass gets a fresh population, so that nothing is remembered but the per-slot tables, as in
    a search. A row `one at a time` prices designs by lowering each, for the ratio.
    """
    problem = _problem(space, device)
    rng = np.random.default_rng(seed)
    # The last population is for the tables, which are filled once a search.
    populations = [problem.space.sample(rng, designs) for _ in range(repeats + 1)]
    _price(problem, populations.pop())
    together = [_seconds(partial(_price, problem, p)) for p in populations]
    single = populations[0][: min(200, designs)]
    lowered = _seconds(lambda: [problem.space.lower(arch) for arch in single]) / len(single)
    rate = designs / float(np.median(together))
    return [
        {"what": f"{' + '.join(_COSTS)}, population of {designs:,}", "designs/s": rate,
         "slowest pass": designs / max(together), "ratio": rate * lowered},
        {"what": "lowering one design at a time, no cost at all", "designs/s": 1 / lowered,
         "slowest pass": None, "ratio": 1.0},
    ]  # fmt: skip


def bench_search(
    space: str = "sam-vit-t",
    *,
    device: str = "jetson-orin",
    evaluations: int = 20_000,
    baseline_evaluations: int = 1_000,
    repeats: int = 3,
    seed: int = 0,
) -> list[Row]:
    """Evaluations a second of our NSGA-II and of pymoo's defaults with one design at a time.

    Both search the same costs of the same space; they take turns, and the median ratio counts.
    """
    problem = _problem(space, device)
    ours, theirs = [], []
    for at in range(seed, seed + repeats):
        ours.append(
            _seconds(
                partial(run_nsga2, problem, population=100, max_evaluations=evaluations, seed=at)
            )
        )
        theirs.append(
            _seconds(
                partial(
                    pymoo_default_one_at_a_time,
                    problem,
                    max_evaluations=baseline_evaluations,
                    seed=at,
                )
            )
        )
    rates = [evaluations / s for s in ours]
    slow = [baseline_evaluations / s for s in theirs]
    ratios = [a / b for a, b in zip(rates, slow, strict=True)]
    return [
        {"what": f"hwnas NSGA-II, {evaluations:,} evaluations",
         "evaluations/s": float(np.median(rates)), "ratio": float(np.median(ratios)),
         "ratio, range": f"{min(ratios):.1f} to {max(ratios):.1f}"},
        {"what": f"pymoo defaults, {baseline_evaluations:,} evaluations",
         "evaluations/s": float(np.median(slow)), "ratio": 1.0, "ratio, range": None},
    ]  # fmt: skip


def _problem(space: str, device: str) -> Problem:
    content: dict[str, object] = {"space": space, "device": device, "objectives": list(_COSTS)}
    return resolve(make_config("bench", content)).problem


def _price(problem: Problem, archs: Archs) -> None:
    for objective in problem.objectives:
        objective.model.evaluate(archs)


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
