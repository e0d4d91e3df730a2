"""Noise floor, drift and outliers of a campaign, against values worked out by hand."""

import numpy as np
import pytest

from hwnas.measure.noise import drift_pct, noise_floor_pct, outliers, variation_pct


def test_the_noise_floor_is_the_mean_relative_difference():
    assert noise_floor_pct([10, 20], [11, 20]) == pytest.approx(5.0)
    assert noise_floor_pct([3.0], [3.0]) == 0


@pytest.mark.parametrize("second", [[], [1.0, 2.0]])
def test_a_noise_floor_needs_pairs(second):
    with pytest.raises(ValueError, match="expected pairs"):
        noise_floor_pct([], second)


def test_drift_is_what_the_reference_changed_from_first_to_last():
    assert drift_pct(np.linspace(0.95, 1.05, 101)) == pytest.approx(10.0)
    assert drift_pct([2.0, 2.0, 2.0, 2.0]) == 0
    assert drift_pct([1.0, 9.0]) == 0


def test_drift_does_not_follow_a_few_bad_values():
    values = np.full(60, 2.0)
    values[50:55] = 40.0
    assert abs(drift_pct(values)) < 1


def test_drift_of_a_long_series_is_that_of_the_series():
    assert drift_pct(np.linspace(1.0, 1.2, 20_000)) == pytest.approx(100 * 0.2 / 1.1, rel=1e-6)


def test_outliers_lie_two_interquartile_ranges_outside():
    values = list(range(10, 20))  # with one more at each end the quartiles are 11.75 and 17.25
    assert outliers([*values, 28.2, 0.8]).tolist() == [False] * 12
    assert outliers([*values, 28.3, 0.7]).tolist() == [False] * 10 + [True, True]
    assert outliers([5.0] * 9 + [5.1]).tolist() == [False] * 9 + [True]
    assert outliers([]).size == 0


def test_variation_is_relative_to_the_mean():
    assert variation_pct([9, 11]) == pytest.approx(100 * np.sqrt(2) / 10)
    assert variation_pct([4]) == 0
