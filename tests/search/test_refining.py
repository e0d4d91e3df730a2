"""A predictor that asks its real counterpart about a few designs while the search runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from hwnas.cost import CostBatch, Refinement
from hwnas.errors import CostError
from hwnas.records import RunFolder
from hwnas.search import (
    Objective,
    Problem,
    Progress,
    SearchResult,
    executed_names,
    hypervolume,
    run_nsga2,
    run_random,
    with_fitted,
)
from hwnas.search.ledger import Ledger
from hwnas.search.outcomes import Outcomes
from hwnas.search.refining import choose
from hwnas.space import Arch, Archs, SearchSpace

Make = Callable[..., Problem]


class Counted:
    """The real quality, which counts what it is asked and may fail."""

    def __init__(self, model: object, broken: bool = False) -> None:
        self.name, self.unit, self.direction = "measured", "score", "max"
        self._model, self._broken = model, broken
        self.asked: list[str] = []

    def evaluate(self, archs: Sequence[Arch]) -> np.ndarray:
        self.asked += [arch.id for arch in archs]
        if self._broken:
            raise RuntimeError("the board is off")
        return self._model.evaluate(archs)  # type: ignore[attr-defined]


class Learner:
    """A stranger's predictor: ridge on the features, with an interval, refined by `Counted`."""

    name, unit, direction = "predicted", "score", "max"

    def __init__(self, space: SearchSpace, real: Counted, plan: tuple[int, int, int]) -> None:
        self.space, self.real, self.plan = space, real, plan
        self.seen: list[int] = []

    def refinement(self) -> Refinement:
        evaluations, start, rounds = self.plan
        return Refinement(self.real, evaluations, start, rounds)  # type: ignore[arg-type]

    def fit(self, archs: Sequence[Arch], values: np.ndarray) -> Self:
        self.seen.append(len(archs))
        x = self._columns(archs)
        self.weights_ = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ values)
        return self

    def evaluate(self, archs: Sequence[Arch]) -> np.ndarray:
        return self.estimate(archs).value

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        value = self._columns(archs) @ self.weights_
        half = 0.1 + 0.1 * self._columns(archs)[:, 0]
        inside = np.zeros(len(value), np.bool_)
        return CostBatch(value, value - half, value + half, 0.9, inside, "predicted", "score", "1")

    def _columns(self, archs: Sequence[Arch]) -> np.ndarray:
        x = self.space.features(Archs.of(self.space, archs))
        return np.c_[x, np.ones(len(x))]


def problem_of(
    rough: Make, plan: tuple[int, int, int] = (40, 10, 3), *, broken: bool = False
) -> tuple[Problem, Learner]:
    quality, latency = rough("quality", "latency").objectives
    space = rough("quality").space
    model = Learner(space, Counted(quality.model, broken), plan)
    return Problem(space, (Objective.of(model), latency)), model  # type: ignore[arg-type]


def searched(problem: Problem, folder: RunFolder | None = None, **more: object) -> SearchResult:
    return run_nsga2(problem, population=20, max_evaluations=120, seed=0, folder=folder, **more)  # type: ignore[arg-type]


def new_folder(path: Path) -> RunFolder:
    return RunFolder.create(path, config={}, command="", seeds={}, inputs={}, environment={})


def test_real_evaluations_are_spread_over_the_search_and_never_repeated(rough: Make) -> None:
    problem, model = problem_of(rough)
    assert executed_names(problem) == ("latency",)
    result = searched(problem)
    assert model.seen == [10, 20, 30, 40]
    assert len(model.real.asked) == len(set(model.real.asked)) == 40 == result.real_evaluations
    found = set(result.evaluated.archs.ids)
    assert set(model.real.asked) <= found
    # every value is told by the last fit
    assert result.front.values[:, 0] == pytest.approx(model.evaluate(result.front.archs))
    assert result.front.columns[0].fidelity == "predicted"


def test_refining_finds_a_better_front_than_the_first_fit_alone(rough: Make) -> None:
    def real_volume(plan: tuple[int, int, int]) -> float:
        problem, model = problem_of(rough, plan)
        front = searched(problem).front
        real = model.real._model.evaluate(front.archs)  # type: ignore[attr-defined]
        return hypervolume(np.c_[-real, front.values[:, 1]], np.array([0.0, 20.0]))

    assert real_volume((60, 12, 4)) > real_volume((12, 12, 1))


def test_a_killed_search_resumes_to_the_undisturbed_one(rough: Make, tmp_path: Path) -> None:
    problem, undisturbed = problem_of(rough)
    expected = searched(problem)
    for stop_at in (4, 13, 27):  # within the first draw, and within two rounds

        def stop(progress: Progress, at: int = stop_at) -> None:
            if progress.real_evaluations == at:
                raise KeyboardInterrupt

        with new_folder(tmp_path / f"run{stop_at}") as folder:
            cut, before = problem_of(rough)
            with pytest.raises(BaseException, match="interrupted"):
                searched(cut, folder, on_generation=stop)
        with RunFolder.open(tmp_path / f"run{stop_at}") as folder:
            again, after = problem_of(rough)
            resumed = searched(again, folder)
        assert resumed.front.to_json() == expected.front.to_json()
        assert [*before.real.asked, *after.real.asked] == undisturbed.real.asked


def test_the_folder_alone_gives_the_values_of_the_front(rough: Make, tmp_path: Path) -> None:
    problem, _ = problem_of(rough)
    with new_folder(tmp_path / "run") as folder:
        result = searched(problem, folder)
        assert set(folder.evaluations()[0].values) == {"latency"}
        fresh, model = problem_of(rough)
        found = {e.arch_id: e for e in with_fitted(fresh, folder)}
    assert not model.real.asked
    for design in result.front:
        assert found[design.id].values["predicted"] == design.values["predicted"]
        assert found[design.id].intervals["predicted"] == design.intervals["predicted"]


def test_one_large_generation_still_gets_all_rounds(rough: Make) -> None:
    problem, model = problem_of(rough)
    run_random(problem, batch=120, max_evaluations=120, seed=0)
    assert model.seen == [10, 20, 30, 40]


def test_a_predictor_that_knows_something_already_needs_no_start(rough: Make) -> None:
    problem, model = problem_of(rough, (6, 0, 2))
    archs = problem.space.sample(np.random.default_rng(0), 30)
    model.fit(archs, np.linspace(0, 1, 30))
    searched(problem)
    assert model.seen == [30, 3, 6]


def test_a_counterpart_that_always_fails_ends_the_search_with_its_reason(rough: Make) -> None:
    problem, _ = problem_of(rough, broken=True)
    with pytest.raises(CostError, match=r"none of 10 designs .* by measured.*the board is off"):
        searched(problem)


def test_the_best_and_the_least_known_of_the_front_are_chosen(rough: Make) -> None:
    problem, _ = problem_of(rough)
    archs = problem.space.sample(np.random.default_rng(1), 8).unique()
    n = len(archs)
    ledger = Ledger(problem.space, problem.names)
    quality = np.arange(n, dtype=float)
    latency = quality.copy()
    latency[0] = 50.0  # the worst and the slowest: dominated
    half = np.full(n, 0.1)
    half[3] = 2.0
    values = np.c_[quality, latency]
    lo, hi = values - np.c_[half, half], values + np.c_[half, half]
    names, said = problem.names, ("",) * n
    ledger.add(archs, Outcomes(names, values, lo, hi, said, ("", ""), np.zeros(n), ({},) * n))
    assert choose(problem, ledger, "predicted", set(), 2).tolist() == [3, n - 1]
    assert choose(problem, ledger, "predicted", {3, n - 1}, 1).tolist() == [n - 2]
    assert 0 not in choose(problem, ledger, "predicted", set(), n - 1)
    assert choose(problem, ledger, "predicted", set(range(1, n)), 4).tolist() == [0]
