"""NSGA-II finds what there is to find, the same each time, and faster than chance."""

from collections.abc import Callable

import numpy as np
import pytest

from cost_models.bitops import Bitops
from cost_models.toy_quality import ToyQuality
from hwnas.cost import CostContext
from hwnas.errors import ConfigError, InfeasibleError
from hwnas.search import (
    Objective,
    ParetoFront,
    Problem,
    Progress,
    run_exhaustive,
    run_nsga2,
    run_random,
)
from hwnas.search.loop import Run
from hwnas.search.random_search import RandomSearch
from hwnas.space import SearchSpace, choice

Make = Callable[..., Problem]


def points(front: ParetoFront) -> set[tuple[float, ...]]:
    return {tuple(row) for row in front.values.tolist()}


def toy_problem(space: SearchSpace) -> Problem:
    context = CostContext(space=space)
    return Problem(space, (Objective.of(ToyQuality(context)), Objective.of(Bitops(context))))


def test_equals_exhaustive_search_on_toy(toy_space: SearchSpace) -> None:
    """With two thirds of the evaluations; chance would miss a dozen of the 39 points."""
    problem = toy_problem(toy_space)
    truth = run_exhaustive(problem)
    assert truth.evaluations == toy_space.size() == 3276
    assert truth.stopped == "exhausted"
    assert len(truth.front) == 39
    for seed in range(3):
        found = run_nsga2(problem, population=40, max_evaluations=2200, seed=seed)
        assert points(found.front) == points(truth.front)
    given = run_nsga2(
        problem,
        population=40,
        max_evaluations=2200,
        seed=0,
        reference_point=truth.reference_point,
    )
    assert given.hypervolume == pytest.approx(truth.hypervolume, rel=1e-12)


def test_beats_random_on_20_of_20_seeds(rough: Make, space: SearchSpace) -> None:
    assert space.size() > 20_000
    problem = rough("quality", "latency", "bitops")
    reference = {"quality": 0.0, "latency": 25.0, "bitops": 250.0}
    ratios = []
    for seed in range(20):
        ours = run_nsga2(
            problem, population=40, max_evaluations=400, seed=seed, reference_point=reference
        )
        chance = Run(  # with the same reference designs to begin with
            problem,
            RandomSearch(problem, seed=seed, references=True),
            max_evaluations=400,
            reference_point=reference,
        ).result()
        assert ours.evaluations == chance.evaluations == 400
        ratios.append(ours.hypervolume / chance.hypervolume)
    assert sum(ratio > 1 for ratio in ratios) == 20
    assert np.mean(ratios) > 1.01


def test_the_same_seed_gives_the_same_front_and_another_does_not(rough: Make) -> None:
    runs = [
        run_nsga2(rough("quality", "latency"), population=20, max_evaluations=200, seed=seed)
        for seed in (5, 5, 6)
    ]
    assert runs[0].front.to_json() == runs[1].front.to_json()
    assert runs[0].evaluated.archs.ids == runs[1].evaluated.archs.ids
    assert runs[0].history == runs[1].history
    assert runs[0].evaluated.archs.ids != runs[2].evaluated.archs.ids


def test_the_front_is_what_the_evaluated_designs_say(rough: Make) -> None:
    result = run_nsga2(
        rough("quality", "latency", limits=["bitops<=60"]),
        population=20,
        max_evaluations=300,
        seed=1,
    )
    assert len(set(result.evaluated.archs.ids)) == result.evaluations == 300
    assert result.front.names == ("quality", "latency", "bitops")
    assert (result.front.values[:, 2] <= 60).all()
    allowed = result.evaluated.values[np.array(result.feasible)]
    for quality, latency, _ in result.front.values:
        better = (allowed[:, 0] >= quality) & (allowed[:, 1] <= latency)
        strictly = (allowed[:, 0] > quality) | (allowed[:, 1] < latency)
        assert not (better & strictly).any()
    assert 0 < sum(result.feasible) < 300


def test_a_limit_steers_the_search(rough: Make) -> None:
    narrow = rough("quality", "latency", limits=["bitops<=3"])
    share = [
        np.mean(run(narrow, max_evaluations=400, seed=0, **size).feasible)
        for run, size in ((run_nsga2, {"population": 20}), (run_random, {"batch": 20}))
    ]
    assert share[0] > 2 * share[1]


def test_an_impossible_limit_names_the_best_value_seen(rough: Make) -> None:
    with pytest.raises(InfeasibleError) as caught:
        run_nsga2(
            rough("quality", "latency", limits=["latency<=0.1", "bitops<=1000"]),
            population=10,
            max_evaluations=60,
            seed=0,
        )
    text = str(caught.value)
    smallest = rough("latency").space.smallest()
    assert "no design of 60 evaluated keeps the limits" in text
    assert f"latency<=0.1: the best value seen is 0.662144 ms (design {smallest.id})" in text
    assert f"nearest to keeping all: design {smallest.id}" in text
    assert caught.value.exit_code == 3


def test_progress_counts_up_to_the_budget(rough: Make) -> None:
    seen: list[Progress] = []
    result = run_nsga2(
        rough("quality", "latency"),
        population=30,
        max_evaluations=100,
        seed=0,
        on_generation=seen.append,
    )
    assert [p.evaluations for p in seen] == [30, 60, 90, 100]
    assert [p.generation for p in seen] == [1, 2, 3, 4]
    volumes = [p.hypervolume for p in seen]
    assert volumes == sorted(volumes)  # type: ignore[type-var]
    assert volumes[-1] == result.hypervolume
    assert all(p.evaluations_per_s and p.evaluations_per_s > 0 for p in seen)
    assert seen[-1].seconds_left == 0
    assert seen[-1].front_size == len(result.front)


def test_a_space_smaller_than_the_budget_is_used_up() -> None:
    space = SearchSpace("tiny", [choice("a", (1, 2, 3)), choice("b", (1, 2, 3))])

    class Product:
        name, unit, direction = "product", "1", "max"

        def evaluate(self, archs):  # type: ignore[no-untyped-def]
            return np.array([float(arch["a"] * arch["b"]) for arch in archs])

    problem = Problem(space, (Objective.of(Product()),))  # type: ignore[arg-type]
    for run in (run_nsga2, run_random):
        result = run(problem, max_evaluations=500, seed=0)
        assert (result.evaluations, result.stopped) == (9, "exhausted")
        assert result.front.values.tolist() == [[9.0]]
    frozen = Problem(space.freeze({"a": 2, "b": 3}), problem.objectives)
    assert run_nsga2(frozen, max_evaluations=5, seed=0).front.values.tolist() == [[6.0]]


def test_wrong_arguments_are_told(rough: Make) -> None:
    problem = rough("quality", "latency")
    with pytest.raises(ConfigError, match="population=3; NSGA-II needs at least 4"):
        run_nsga2(problem, population=3, max_evaluations=10, seed=0)
    with pytest.raises(ConfigError, match="max_evaluations=0"):
        run_nsga2(problem, max_evaluations=0, seed=0)
    with pytest.raises(ConfigError, match="expected one number for each of quality, latency"):
        run_nsga2(problem, max_evaluations=10, seed=0, reference_point={"quality": 0.0})
