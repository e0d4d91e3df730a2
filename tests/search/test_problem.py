"""The one place where signs are flipped, and what a problem refuses."""

import numpy as np
import pytest

from hwnas.errors import ConfigError
from hwnas.search import Limit, Objective, Problem
from hwnas.space import SearchSpace


class Model:
    def __init__(self, name: str, direction: str = "min") -> None:
        self.name, self.unit, self.direction = name, "ms", direction

    def evaluate(self, archs):  # type: ignore[no-untyped-def]
        return np.zeros(len(archs))


def objective(name: str, direction: str = "min") -> Objective:
    return Objective.of(Model(name, direction))  # type: ignore[arg-type]


def test_only_maximized_objectives_change_sign(space: SearchSpace) -> None:
    problem = Problem(
        space, (objective("quality", "max"), objective("latency")), (), (objective("size", "max"),)
    )
    values = np.array([[0.8, 20.0, 5.0], [0.7, 10.0, 6.0]])
    f = problem.minimized(values)
    assert f.tolist() == [[-0.8, 20.0], [-0.7, 10.0]]
    assert problem.natural(f[0]) == {"quality": 0.8, "latency": 20.0}
    assert values[0, 0] == 0.8


def test_constraints_are_shares_of_the_bound(space: SearchSpace) -> None:
    limits = (Limit.parse("latency<=20"), Limit.parse("quality>=0.5"))
    problem = Problem(
        space, (objective("quality", "max"),), limits, observed=(objective("latency"),)
    )
    values, none = np.array([[0.25, 30.0], [0.75, 10.0]]), np.full((2, 2), np.nan)
    assert problem.constraints(values, none, none).tolist() == [[0.5, 0.5], [-0.5, -0.5]]
    hi = np.array([[np.nan, 40.0], [np.nan, 22.0]])
    assert problem.constraints(values, none, hi)[:, 0].tolist() == [1.0, pytest.approx(0.1)]


def test_all_problems_are_told_at_once(space: SearchSpace) -> None:
    with pytest.raises(ConfigError) as caught:
        Problem(
            space,
            (objective("latency"), objective("latency")),
            (Limit.parse("latancy<=2"), Limit.parse("iou>=0.5")),
        )
    twice, near, far = str(caught.value).splitlines()
    assert "'latency' is named twice" in twice
    assert "limit latancy<=2: no cost model called 'latancy'" in near
    assert "did you mean 'latency'?" in near
    assert "add it with --cost iou" in far
    assert "did you mean" not in far


def test_no_objectives_and_wrong_directions_are_refused(space: SearchSpace) -> None:
    with pytest.raises(ConfigError, match="no objectives"):
        Problem(space, ())
    with pytest.raises(ConfigError, match="direction 'up'; expected 'min' or 'max'"):
        objective("latency", "up")
