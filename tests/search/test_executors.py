"""Workers are given plain JSON, and give the numbers and the order of the serial executor."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cost_models.bitops import Bitops
from cost_models.toy_quality import ToyQuality
from hwnas.cost import CostContext
from hwnas.errors import ConfigError, PluginError, RunError
from hwnas.records import RunFolder
from hwnas.search import (
    Objective,
    Outcomes,
    Problem,
    ProcessExecutor,
    SerialExecutor,
    WorkerSpec,
    executed_names,
    run_nsga2,
)
from hwnas.search.worker import answer, open_workplace, outcomes_of
from hwnas.space import SearchSpace


def spec_of(*objectives: str, **config: object) -> WorkerSpec:
    """What the search workflow hands to a worker."""
    content = {"space": "toy", "objectives": list(objectives), **config}
    return WorkerSpec("hwnas.workflows.workplace:build_workplace", {"config": content})


SPEC = spec_of("toy_quality", "bitops")


@pytest.fixture
def toy_problem(toy_space: SearchSpace) -> Problem:
    context = CostContext(space=toy_space)
    return Problem(toy_space, (Objective.of(ToyQuality(context)), Objective.of(Bitops(context))))


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessExecutor]:
    executor = ProcessExecutor(SPEC, ("toy_quality", "bitops"), workers=2)
    yield executor
    executor.close()


def serial(problem: Problem) -> SerialExecutor:
    return SerialExecutor({column.name: column.model for column in problem.columns})


def same(one: Outcomes, other: Outcomes) -> bool:
    return (
        one.names == other.names
        and one.messages == other.messages
        and one.fidelity == other.fidelity
        and np.array_equal(one.values, other.values, equal_nan=True)
        and np.array_equal(one.lo, other.lo, equal_nan=True)
        and np.array_equal(one.hi, other.hi, equal_nan=True)
    )


@pytest.mark.parametrize("n", [1, 2, 37])
def test_processes_answer_like_this_process(
    toy_problem: Problem, pool: ProcessExecutor, n: int
) -> None:
    archs = toy_problem.space.sample(np.random.default_rng(n), n)
    assert same(pool.map(archs), serial(toy_problem).map(archs))


def test_a_search_is_the_same_with_either(
    toy_problem: Problem, pool: ProcessExecutor, tmp_path: Path
) -> None:
    fronts, stored = [], []
    for executor in (None, pool):
        with RunFolder.create(
            tmp_path / str(executor is None), config={}, command="", seeds={}, inputs={}
        ) as folder:
            result = run_nsga2(
                toy_problem,
                population=20,
                max_evaluations=100,
                seed=2,
                executor=executor,
                folder=folder,
            )
            fronts.append(result.front.to_json())
            stored.append([(e.arch_id, e.values, e.fidelity) for e in folder.evaluations()])
    assert fronts[0] == fronts[1]
    assert stored[0] == stored[1]


def test_a_worker_needs_nothing_but_json(toy_problem: Problem) -> None:
    spec = json.loads(json.dumps(SPEC.to_dict()))
    archs = toy_problem.space.sample(np.random.default_rng(0), 9)
    rows = json.loads(json.dumps(toy_problem.space.encode(archs).tolist()))
    found = json.loads(json.dumps(answer(open_workplace(spec), rows, breakdown=True)))
    assert same(outcomes_of(found), serial(toy_problem).map(archs))
    assert found["breakdowns"][0]["bitops"]
    with pytest.raises(TypeError, match="not JSON serializable"):
        ProcessExecutor(WorkerSpec("a:b", {"model": object()}), ("bitops",))


def test_another_engine_fits_behind_the_protocol(toy_problem: Problem) -> None:
    class Threads:
        """What a Ray or Dask executor would look like."""

        names = ("toy_quality", "bitops")

        def __init__(self) -> None:
            self.places = [open_workplace(SPEC.to_dict()) for _ in range(2)]

        def map(self, archs) -> Outcomes:  # type: ignore[no-untyped-def]
            rows = archs.space.encode(archs).tolist()
            parts = [rows[0::2], rows[1::2]]
            with ThreadPoolExecutor(2) as engine:
                found = list(engine.map(answer, self.places, parts))
            joined = Outcomes.join([outcomes_of(part) for part in found])
            order = np.argsort([*range(0, len(rows), 2), *range(1, len(rows), 2)])
            return joined.take(order)

        def close(self) -> None: ...

    results = [
        run_nsga2(toy_problem, population=20, max_evaluations=60, seed=0, executor=executor)
        for executor in (None, Threads())
    ]
    assert results[0].front.to_json() == results[1].front.to_json()


def test_a_restricted_space_is_restricted_in_the_workers_too(toy_space: SearchSpace) -> None:
    small = toy_space.freeze({"resolution": 96})
    place = open_workplace(spec_of("bitops", freeze={"resolution": 96}).to_dict())
    assert place.space.size() == small.size() < toy_space.size()
    archs = small.sample(np.random.default_rng(0), 5)
    rows = small.encode(archs).tolist()
    expected = Bitops(CostContext(space=small)).evaluate(archs)
    assert outcomes_of(answer(place, rows)).values[:, 0].tolist() == expected.tolist()


def test_a_worker_that_cannot_build_says_why(toy_problem: Problem) -> None:
    executor = ProcessExecutor(spec_of("no_such_model"), ("bitops",), workers=1)
    try:
        with pytest.raises(PluginError, match="no cost model is called 'no_such_model'"):
            executor.map(toy_problem.space.sample(np.random.default_rng(0), 2))
    finally:
        executor.close()


def test_a_worker_that_dies_is_an_error_with_advice(toy_problem: Problem) -> None:
    executor = ProcessExecutor(SPEC, ("toy_quality", "bitops"), workers=1)
    archs = toy_problem.space.sample(np.random.default_rng(0), 2)
    try:
        executor.map(archs)
        os.kill(next(iter(executor._pool._processes)), signal.SIGKILL)  # type: ignore[union-attr]
        time.sleep(0.1)
        with pytest.raises(RunError, match="fewer --workers"):
            executor.map(archs)
        assert len(executor.map(archs)) == 2  # the next batch starts a new pool
    finally:
        executor.close()


def test_an_executor_of_other_models_is_refused(
    toy_problem: Problem, rough: Callable[..., Problem]
) -> None:
    assert executed_names(toy_problem) == ("toy_quality", "bitops")
    with pytest.raises(ConfigError, match="evaluates toy_quality, bitops; expected quality"):
        run_nsga2(rough("quality"), max_evaluations=10, seed=0, executor=serial(toy_problem))
