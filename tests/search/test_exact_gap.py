"""The distance between a front and the exact one, on staircases with known areas."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.errors import ConfigError
from hwnas.search import Column, Designs, ParetoFront
from hwnas.search.exact_gap import best_within, front_gap
from search_spaces.toy import toy

EXACT = [(1.0, 4.0), (0.75, 2.0), (0.5, 1.0)]
REFERENCE = {"score": 0.0, "cost": 5.0}


def front(points: list[tuple[float, float]], *, swapped: bool = False) -> ParetoFront:
    columns = (Column("score", "", "max", "proxy"), Column("cost", "ms", "min", "table"))
    values = np.array(points).reshape(-1, 2)
    if swapped:
        columns, values = columns[::-1], values[:, ::-1]
    archs = toy().sample(np.random.default_rng(0), len(values))
    unknown = np.full_like(values, np.nan)
    return ParetoFront(Designs(archs, columns, values, unknown, unknown))


def test_the_exact_front_has_no_gap() -> None:
    gap = front_gap(front(EXACT, swapped=True), front(EXACT))
    assert (gap.hypervolume_ratio, gap.worst_gap) == (1.0, 0.0)
    assert (gap.reached, gap.missed, gap.budgets) == (3, 0, 3)


def test_areas_and_the_worst_gap_are_the_closed_ones() -> None:
    found = front([(0.9, 4.0), (0.5, 1.5)])
    gap = front_gap(found, front(EXACT), reference=REFERENCE)
    assert gap.hypervolume_ratio == pytest.approx((0.9 + 0.5 * 2.5) / (1.0 + 0.75 * 2 + 0.5))
    assert gap.worst_gap == pytest.approx(0.25)
    assert gap.worst_share == pytest.approx(0.5)
    assert gap.worst_budget == 2.0
    assert (gap.reached, gap.missed) == (0, 1)
    assert gap.reference == REFERENCE
    assert gap.to_dict()["missed"] == 1


def test_nothing_within_any_budget() -> None:
    gap = front_gap(front([(1.0, 4.5)]), front(EXACT), reference=REFERENCE)
    assert gap.worst_gap is None
    assert gap.missed == 3
    assert gap.hypervolume_ratio == pytest.approx(0.5 / 3.0)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a front of two"):
        front_gap(front(EXACT), front([]))
    with pytest.raises(ConfigError, match="no exact design is better"):
        front_gap(front(EXACT), front(EXACT), reference={"score": 2.0, "cost": 5.0})
    with pytest.raises(ConfigError, match="has no cost"):
        front_gap(front(EXACT), front(EXACT), reference={"score": 0.0})


def test_best_within_is_nan_where_nothing_is() -> None:
    found = best_within(front(EXACT, swapped=True), ("score", "cost"), [0.5, 1.0, 1.9, 9.0])
    np.testing.assert_array_equal(found, [np.nan, 0.5, 0.5, 1.0])
    with pytest.raises(ConfigError, match="'speed' was not evaluated"):
        best_within(front(EXACT), ("score", "speed"), [1.0])
