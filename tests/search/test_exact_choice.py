"""The integer program against trying every choice."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest

from hwnas.search.exact_choice import ChoiceProgram, _stdout_kept_clean


def made_up(seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    groups = [rng.random((size, 3)) * scale for size, scale in ((4, 1), (3, 10), (5, 0.1), (2, 3))]
    return rng.random(3), groups


def sums(constant: np.ndarray, groups: list[np.ndarray]) -> np.ndarray:
    picks = itertools.product(*(range(len(group)) for group in groups))
    return np.array(
        [constant + sum(g[o] for g, o in zip(groups, pick, strict=True)) for pick in picks]
    )


@pytest.mark.parametrize("seed", range(6))
def test_least_loss_within_budgets(seed: int) -> None:
    constant, groups = made_up(seed)
    program, values = ChoiceProgram(constant, groups), sums(constant, groups)
    for share in (0.3, 0.5, 0.8):
        budgets = [(k, float(np.quantile(values[:, k], share))) for k in (1, 2)]
        kept = (values[:, 1] <= budgets[0][1]) & (values[:, 2] <= budgets[1][1])
        found = program.minimize(0, budgets)
        if not kept.any():
            assert found is None
            continue
        assert found is not None
        assert found.values[0] == pytest.approx(values[kept, 0].min())
        total = constant + sum(g[o] for g, o in zip(groups, found.options, strict=True))
        np.testing.assert_allclose(found.values, total)
        assert found.certificate.status == "optimal"
        assert found.certificate.bound <= found.values[0]


@pytest.mark.parametrize("seed", range(3))
def test_nearest_is_the_least_largest_excess(seed: int) -> None:
    constant, groups = made_up(seed)
    program, values = ChoiceProgram(constant, groups), sums(constant, groups)
    extent = program.highest - program.lowest
    budgets = [(1, float(program.lowest[1]) - 0.2), (2, float(program.lowest[2]))]
    assert program.minimize(0, budgets) is None
    excess = [(values[:, k] - bound) / extent[k] for k, bound in budgets]
    assert program.nearest(budgets)[0] == pytest.approx(np.max(excess, axis=0).min(), abs=1e-6)
    assert program.nearest([(1, float(program.highest[1]))])[0] == 0.0


def test_a_budget_that_is_met_exactly_is_met() -> None:
    constant, groups = made_up(0)
    program = ChoiceProgram(constant, groups)
    found = program.minimize(0, [(1, float(program.lowest[1]))])
    assert found is not None
    assert found.values[1] == pytest.approx(program.lowest[1])


def test_nothing_to_choose() -> None:
    program = ChoiceProgram(np.array([1.0, 2.0]), [])
    found = program.minimize(0, [(1, 2.0)])
    assert found is not None
    assert found.options == ()
    assert program.minimize(0, [(1, 1.9)]) is None


def test_what_the_solver_prints_is_no_output(capfd: pytest.CaptureFixture[str]) -> None:
    with _stdout_kept_clean():
        os.write(1, b"noise")
    os.write(1, b"ours")
    assert capfd.readouterr() == ("ours", "noise")
