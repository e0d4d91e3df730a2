"""Exact search against exhaustive enumeration, and what it refuses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cost_models.bitops import Bitops
from cost_models.model_size import ModelSize, PeakMemory
from cost_models.toy_quality import ToyQuality
from hwnas.cost import CostContext
from hwnas.cost.additive import AdditiveTables
from hwnas.errors import ConfigError, CostError, InfeasibleError, SpaceError
from hwnas.search import Limit, Objective, Problem, run_exhaustive
from hwnas.search.exact import ExactSearch, run_exact
from hwnas.search.exact_gap import best_within
from hwnas.space import SearchSpace, ordinal
from search_spaces.toy import toy
from tests.search.additive_models import (
    Terms,
    block_terms,
    bound_space,
    everything,
    problem,
    small_space,
)


def best_of_all(asked: Problem) -> float:
    """The best score among all architectures that keep the limits; -inf if none does."""
    archs = everything(asked.space)
    values = {c.name: c.model.evaluate(archs) for c in asked.columns}
    kept = np.ones(len(archs), dtype=bool)
    for limit in asked.limits:
        v = values[limit.name]
        kept &= v <= limit.bound if limit.op == "<=" else v >= limit.bound
    return float(values["score"][kept].max()) if kept.any() else -np.inf


def solver(asked: Problem, largest: int) -> ExactSearch:
    """Exact search with groups of at most `largest` options."""
    models = [column.model for column in asked.columns]
    return ExactSearch(asked, AdditiveTables(asked.space, models, largest_group=largest))


@pytest.mark.parametrize("largest", [9, 4096])
@pytest.mark.parametrize("make", [small_space, bound_space])
@pytest.mark.parametrize(
    "limits",
    [(), ("cost<=1.2",), ("cost<=2.5", "size<=2.0"), ("cost<=2.5", "size<=2.4", "cost>=2.3")],
)
def test_best_equals_exhaustive(make, limits, largest) -> None:
    asked = problem(make(), *limits, objectives=1)
    found = solver(asked, largest).best()
    assert found.front.values[0, 0] == pytest.approx(best_of_all(asked), abs=1e-9)
    assert found.optimal
    assert found.certificates[0].gap <= 1e-6
    assert found.certificates[0].bound >= found.front.values[0, 0] - 1e-9
    for limit in asked.limits:
        value = found.front.best().values[limit.name]
        assert value <= limit.bound if limit.op == "<=" else value >= limit.bound


@pytest.mark.parametrize("make", [small_space, bound_space])
@pytest.mark.parametrize("limits", [(), ("size<=2.0",)])
def test_whole_front_equals_exhaustive(make, limits) -> None:
    asked = problem(make(), *limits)
    found, truth = solver(asked, 9).front(None), run_exhaustive(asked).front
    assert found.complete
    np.testing.assert_allclose(found.front.values[:, :2], truth.values[:, :2], rtol=1e-9)
    assert found.combinations == (6 if make is small_space else 54)


def test_budgets_give_part_of_the_front_with_its_ends() -> None:
    asked = problem(small_space())
    found, truth = run_exact(asked, points=5), run_exhaustive(asked).front
    rows = {tuple(row) for row in truth.values[:, :2].round(9).tolist()}
    assert {tuple(row) for row in found.front.values[:, :2].round(9).tolist()} <= rows
    assert 2 <= len(found.front) <= 5
    assert not found.complete
    for end in (0, -1):
        np.testing.assert_allclose(found.front.values[end, :2], truth.values[end, :2])


def test_built_in_costs_of_the_toy_space_are_additive() -> None:
    space = toy()
    context = CostContext(space)
    score = Terms(space, "score", block_terms(), seed=4, direction="max")
    asked = Problem(
        space,
        (Objective.of(score), Objective.of(Bitops(context))),
        (Limit.parse("model_size<=9000"),),
        (Objective.of(ModelSize(context)),),
    )
    found, truth = solver(asked, 9).front(None), run_exhaustive(asked).front
    np.testing.assert_allclose(found.front.values[:, :2], truth.values[:, :2], rtol=1e-9)
    assert found.shared == ("resolution", "depth")


def test_what_is_no_sum_is_refused_by_name() -> None:
    context = CostContext(toy())
    for model in (ToyQuality(context), PeakMemory(context)):
        with pytest.raises(CostError, match=f"{model.name} is no sum over the groups of toy"):
            solver(Problem(toy(), (Objective.of(model),)), 9)


def test_one_group_that_holds_everything_needs_no_sum() -> None:
    context = CostContext(toy())
    asked = Problem(toy(), (Objective.of(ToyQuality(context)), Objective.of(Bitops(context))))
    found, truth = run_exact(asked, points=None), run_exhaustive(asked).front
    assert found.shared == ("depth",)
    np.testing.assert_allclose(found.front.values, truth.values, rtol=1e-9)


def test_infeasible_names_the_nearest_values() -> None:
    asked = problem(small_space(), "cost<=0.1", "size<=0.1", objectives=1)
    archs = everything(asked.space)
    cost, size = (c.model.evaluate(archs) for c in asked.columns[1:])
    with pytest.raises(InfeasibleError) as caught:
        run_exact(asked)
    text = str(caught.value)
    assert "no design of sums keeps the limits" in text
    assert f"by itself it could be {cost.min():.6g}" in text
    assert f"by itself it could be {size.min():.6g}" in text


def test_a_limit_that_nearly_fits_gives_the_least_cost() -> None:
    free = problem(small_space(), objectives=1)
    cheapest = float(free.columns[1].model.evaluate(everything(free.space)).min())
    asked = problem(small_space(), f"cost<={cheapest}", objectives=1)
    assert run_exact(asked).front.best().values["cost"] == pytest.approx(cheapest)
    with pytest.raises(InfeasibleError, match=f"nearest has\n  .*: {cheapest:.6g} points"):
        run_exact(problem(small_space(), f"cost<={cheapest - 0.01}", objectives=1))


def test_too_many_combinations_are_named() -> None:
    genes = [f"g{i}" for i in range(20)]
    space = SearchSpace("pairs", [ordinal(gene, range(8)) for gene in genes])
    pairs = list(itertools.pairwise(genes))
    model = Terms(space, "score", pairs, seed=5, direction="max")
    with pytest.raises(SpaceError, match=r"freeze some of them .*g\d+ \(8\)"):
        run_exact(Problem(space, (Objective.of(model),)))
    frozen = space.freeze({"g4": 2, "g9": 5, "g14": 0})
    model = Terms(frozen, "score", pairs, seed=5, direction="max")
    found = run_exact(Problem(frozen, (Objective.of(model),)))
    assert found.front.values[0, 0] == pytest.approx(best_of_chain(model, frozen, pairs))


def best_of_chain(model: Terms, space: SearchSpace, pairs: list[tuple[str, str]]) -> float:
    """Dynamic programming along the chain."""
    value = np.zeros(len(space.gene("g0").options))
    for table in model._tables:
        value = (value[:, None] + table).max(axis=0)
    return float(value.max()) + 0.5


def test_three_objectives_and_one_budget_are_refused() -> None:
    with pytest.raises(ConfigError, match="two objectives, the problem 3"):
        run_exact(problem(small_space(), objectives=3))
    with pytest.raises(ConfigError, match="points is 1"):
        run_exact(problem(small_space()), points=1)


def test_designs_are_architectures_of_the_space() -> None:
    asked = problem(small_space())
    found = run_exact(asked, points=4)
    assert found.archs.space is asked.space
    assert not any(asked.space.validate(arch.genes) for arch in found.archs)
    assert run_exact(asked, points=4).archs.ids == found.archs.ids


@pytest.mark.parametrize("limits", [(), ("size<=2.2",)])
def test_within_gives_the_optimum_of_each_budget(limits) -> None:
    asked = problem(small_space(), *limits)
    search = solver(asked, 9)
    budgets = search.spread([0.0, 0.3, 0.6, 1.0])
    truth = run_exhaustive(asked).front
    ends = truth.values[[-1, 0], 1]
    np.testing.assert_allclose([budgets[0], budgets[-1]], ends, rtol=1e-9)
    assert budgets[1] ** (1 / 0.3) == pytest.approx(
        budgets[0] ** (0.7 / 0.3) * budgets[-1], rel=1e-6
    )
    ours = best_within(search.within(budgets).front, ("score", "cost"), budgets)
    np.testing.assert_allclose(ours, best_within(truth, ("score", "cost"), budgets), rtol=1e-9)
    with pytest.raises(InfeasibleError, match=r"has cost within 0\.01; raise the budgets"):
        search.within([0.01])


def test_budgets_of_a_second_objective_that_is_maximized() -> None:
    space = small_space()
    score = Terms(space, "score", block_terms(), seed=1, direction="min")
    gain = Terms(space, "gain", block_terms("resolution"), seed=2, direction="max")
    asked = Problem(space, (Objective.of(score), Objective.of(gain)))
    search, truth = solver(asked, 9), run_exhaustive(asked).front
    budgets = search.spread([0.0, 0.5, 1.0])
    assert budgets == sorted(budgets, reverse=True)
    ours = best_within(search.within(budgets).front, ("score", "gain"), budgets)
    np.testing.assert_allclose(ours, best_within(truth, ("score", "gain"), budgets), rtol=1e-9)
