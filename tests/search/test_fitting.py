"""Objectives that learn while the search runs."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from hwnas.errors import ConfigError
from hwnas.records import RunFolder
from hwnas.search import Objective, Problem, Progress, executed_names, run_nsga2
from hwnas.space import Arch, Archs, SearchSpace

Make = Callable[..., Problem]


class Linear:
    """Least squares on the space's features."""

    unit, direction, fidelity = "score", "max", "predicted"

    def __init__(self, space: SearchSpace, target: str, name: str = "predicted") -> None:
        self.space, self.target, self.name = space, target, name
        self.seen: list[int] = []
        self.weights_ = np.zeros(0)

    def fit(self, archs: Sequence[Arch], values: np.ndarray) -> Self:
        self.seen.append(len(archs))
        x = self.space.features(archs)
        self.weights_ = np.linalg.lstsq(np.c_[x, np.ones(len(x))], values, rcond=None)[0]
        return self

    def evaluate(self, archs: Sequence[Arch]) -> np.ndarray:
        x = self.space.features(Archs.of(self.space, archs))
        return np.c_[x, np.ones(len(x))] @ self.weights_


def problem_of(rough: Make, target: str = "quality") -> tuple[Problem, Linear]:
    plain = rough("quality", "latency")
    model = Linear(plain.space, target)
    quality, latency = plain.objectives
    return Problem(plain.space, (Objective.of(model), latency), (), (quality,)), model  # type: ignore[arg-type]


def test_the_predictor_is_refitted_after_each_generation(rough: Make) -> None:
    problem, model = problem_of(rough)
    assert executed_names(problem) == ("latency", "quality")
    result = run_nsga2(problem, population=20, max_evaluations=100, seed=0)
    assert model.seen == [20, 40, 60, 80, 100]
    assert result.front.columns[0].fidelity == "predicted"
    # the front is told in the values of the last fit
    assert result.front.values[:, 0] == pytest.approx(model.evaluate(result.front.archs), rel=1e-12)
    assert result.evaluated.values[:, 0] == pytest.approx(
        model.evaluate(result.evaluated.archs), rel=1e-12
    )


def test_survivors_are_judged_by_the_values_of_the_last_fit(rough: Make) -> None:
    problem, model = problem_of(rough)
    told: list[np.ndarray] = []

    class Spy(Linear):
        def fit(self, archs: Sequence[Arch], values: np.ndarray) -> Self:
            told.append(values.copy())
            return super().fit(archs, values)

    spy = Spy(problem.space, "quality")
    watched = Problem(
        problem.space,
        (Objective.of(spy), problem.objectives[1]),  # type: ignore[arg-type]
        (),
        problem.observed,
    )
    one = run_nsga2(watched, population=20, max_evaluations=80, seed=0)
    two = run_nsga2(problem, population=20, max_evaluations=80, seed=0)
    assert one.front.to_json() == two.front.to_json()
    for before, after in itertools.pairwise(told):
        assert (after[: len(before)] == before).all()  # real values never move
    assert model.seen[-1] == 80


def test_a_resumed_run_repeats_the_fits(rough: Make, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.generation == 2:
            raise KeyboardInterrupt

    expected = run_nsga2(problem_of(rough)[0], population=20, max_evaluations=100, seed=0)
    facts: dict[str, dict[str, str]] = {"config": {}, "inputs": {}, "environment": {}}
    with RunFolder.create(tmp_path / "run", command="", seeds={}, **facts) as folder:
        with pytest.raises(BaseException, match="interrupted"):
            run_nsga2(
                problem_of(rough)[0],
                population=20,
                max_evaluations=100,
                seed=0,
                folder=folder,
                on_generation=stop,
            )
        assert set(folder.evaluations()[0].values) == {"latency", "quality"}
        resumed = run_nsga2(
            problem_of(rough)[0], population=20, max_evaluations=100, seed=0, folder=folder
        )
    assert resumed.front.to_json() == expected.front.to_json()


def test_a_predictor_without_its_target_keeps_what_it_knows(rough: Make) -> None:
    problem, _ = problem_of(rough, target="measured")
    model = problem.objectives[0].model
    archs = problem.space.sample(np.random.default_rng(0), 60)
    model.fit(archs, np.linspace(0, 1, 60))  # type: ignore[attr-defined]
    assert "predicted" in executed_names(problem)
    run_nsga2(problem, population=20, max_evaluations=60, seed=0)
    assert model.seen == [60]  # type: ignore[attr-defined]


def test_learning_from_what_is_learned_is_refused(rough: Make) -> None:
    problem, _ = problem_of(rough)
    chained = Objective.of(Linear(problem.space, "predicted", "twice"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="twice: learns from a column that is itself learned"):
        executed_names(Problem(problem.space, (*problem.objectives, chained), (), problem.observed))
