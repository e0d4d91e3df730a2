"""Figures of merit by hand, noise floors against simulations, and what makes a series unfit."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.calibration.accuracy import Accuracy
from hwnas.calibration.noise import (
    drift_pct,
    label_of,
    noise_between,
    noise_of_repeats,
    outliers,
    variation_pct,
    without_outliers,
)  # fmt: skip
from hwnas.calibration.series import broken_repeats, series_problems, shrinking_problem
from hwnas.errors import ConfigError


def repeats(n: int = 60, r: int = 10, *, sd: float = 0.02, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(1, 20, n)[:, None] * np.exp(rng.normal(0, sd, (n, r)))


def lines(array: np.ndarray) -> list[int]:
    return list(range(2, 2 + len(array)))


def test_accuracy_by_hand() -> None:
    found = Accuracy.of([10, 20, 30, 40], [10.4, 22, 30, 60])
    assert found.mape == pytest.approx(100 * (0.04 + 0.1 + 0 + 0.5) / 4)
    assert found.median_ape == pytest.approx(7.0)
    assert (found.within_5pct, found.within_10pct) == (0.5, 0.75)  # exactly 10 % off is within
    assert found.kendall_tau == 1.0
    assert Accuracy.from_dict(found.to_dict()) == found


@pytest.mark.parametrize("true", [[], [1.0, 0.0]])
def test_accuracy_wants_positive_values(true: list[float]) -> None:
    with pytest.raises(ConfigError, match="all positive"):
        Accuracy.of(true, true)


def test_outliers_go_and_labels_stay() -> None:
    row = np.array([[1.00, 1.01, 0.99, 1.02, 0.98, 1.0, 9.0, 1.01]])
    assert np.isnan(without_outliers(row)[0, 6])
    assert label_of(row)[0] == pytest.approx(1.0, abs=0.011)
    assert label_of(row, "minimum")[0] == 0.98
    assert label_of(np.array([[3.0]]))[0] == 3.0


@pytest.mark.parametrize("r", [2, 5, 10])
def test_noise_of_repeats_is_that_of_two_labels(r: int) -> None:
    both = repeats(600, 2 * r, sd=0.05)
    direct = noise_between(label_of(both[:, :r]), label_of(both[:, r:]))
    halves = noise_of_repeats(both[:, :r])
    assert direct is not None
    assert halves is not None
    # medians of few are a little noisier than the square root law says
    assert halves.mape == pytest.approx(direct.mape, rel=0.25)


def test_noise_is_unknown_without_repeats() -> None:
    assert noise_of_repeats(repeats(r=1)) is None
    assert noise_between([], []) is None


def test_a_good_series_has_no_problem() -> None:
    good = repeats()
    good[3, 4] *= 3.0  # single outliers are what medians are for
    good[5, 2] = np.nan
    assert series_problems(good, lines(good)) == []
    assert broken_repeats(good) == {}


def test_what_makes_a_series_unfit() -> None:
    good = repeats()
    cold, hot, jumpy = good.copy(), good.copy(), repeats(sd=0.3)
    cold[:, :2] *= 1.5
    hot *= np.linspace(1.0, 1.4, 10)
    negative = good.copy()
    negative[7, 3] = -1.0
    for series, words in (
        (cold, "first 2 repeats are systematically slower"),
        (hot, "last repeats are systematically slower"),
        (jumpy, "vary by"),
        (negative, "line 9: -1"),
        (np.full((20, 3), 4.0), "all 20 rows have the time 4"),
    ):
        found = series_problems(series, lines(series))
        assert len(found) == 1
        assert words in found[0]


def test_one_bad_repeat_is_told_from_the_others() -> None:
    rng = np.random.default_rng(1)
    for column, change in (
        (4, lambda c: c * 1000),
        (0, rng.permutation),
        (2, lambda c: np.where(np.arange(len(c)) == 5, -1.0, c)),
    ):
        series = repeats()
        series[:, column] = change(series[:, column])
        assert list(broken_repeats(series)) == [column]


def test_a_rate_is_no_time() -> None:
    size = np.random.default_rng(0).uniform(1, 10, 50)
    assert shrinking_problem(size, size, "the MACs") is None
    assert "is it a rate" in str(shrinking_problem(1 / size, size, "the MACs"))


def test_the_noise_floor_is_the_mean_relative_difference() -> None:
    found = noise_between([10, 20], [11, 20])
    assert found is not None
    assert found.mape == pytest.approx(5.0)
    assert noise_between([], []) is None


def test_drift_is_what_the_reference_changed_from_first_to_last() -> None:
    assert drift_pct(np.linspace(0.95, 1.05, 101)) == pytest.approx(10.0)
    assert drift_pct([2.0, 2.0, 2.0, 2.0]) == 0
    assert drift_pct([1.0, 9.0]) == 0


def test_drift_does_not_follow_a_few_bad_values() -> None:
    values = np.full(60, 2.0)
    values[50:55] = 40.0
    assert abs(drift_pct(values)) < 1


def test_drift_of_a_long_series_is_that_of_the_series() -> None:
    assert drift_pct(np.linspace(1.0, 1.2, 20_000)) == pytest.approx(100 * 0.2 / 1.1, rel=1e-6)


def test_outliers_lie_two_interquartile_ranges_outside() -> None:
    values = list(range(10, 20))  # with one more at each end the quartiles are 11.75 and 17.25
    assert outliers([*values, 28.2, 0.8]).tolist() == [False] * 12
    assert outliers([*values, 28.3, 0.7]).tolist() == [False] * 10 + [True, True]
    assert outliers([5.0] * 9 + [5.1]).tolist() == [False] * 9 + [True]
    assert outliers([]).size == 0


def test_variation_is_relative_to_the_mean() -> None:
    assert variation_pct([9, 11]) == pytest.approx(100 * np.sqrt(2) / 10)
    assert variation_pct([4]) == 0
