"""Isotonic curves against their definition and scikit-learn; what a curve promises."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from hwnas.calibration import kendall_tau
from hwnas.calibration.isotonic import IsotonicFit
from hwnas.errors import ConfigError

Float = NDArray[np.float64]


def naive_steps(y: Float) -> Float:
    """Least squares under y_1 <= y_2 <= ...: max over starts of min over ends of the mean."""
    n = len(y)
    return np.array(
        [max(min(y[a : b + 1].mean() for b in range(i, n)) for a in range(i + 1)) for i in range(n)]
    )


@pytest.mark.parametrize("seed", range(4))
def test_knots_are_the_centers_of_the_least_squares_steps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(0, 1, 40))
    y = x + rng.normal(0, 0.3, 40)
    steps = naive_steps(y)
    fit = IsotonicFit.of(x, y)
    assert fit.y == pytest.approx(np.unique(steps), abs=1e-12)
    assert fit.x == pytest.approx(
        [x[np.isclose(steps, level)].mean() for level in fit.y], abs=1e-12
    )
    shuffled = rng.permutation(40)
    again = IsotonicFit.of(x[shuffled], y[shuffled])
    assert again.y == pytest.approx(fit.y, abs=1e-12)


def test_steps_are_those_of_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.isotonic")
    rng = np.random.default_rng(1)
    x = rng.integers(0, 12, 60).astype(float)  # many equal scores
    y = x + rng.normal(0, 4, 60)
    theirs = sklearn.IsotonicRegression().fit(x, y)
    assert IsotonicFit.of(x, y).y == pytest.approx(np.unique(theirs.predict(x)), abs=1e-9)


def test_a_curve_keeps_the_order_of_scores_between_its_ends() -> None:
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 1, 80)
    fit = IsotonicFit.of(x, np.sqrt(x) + rng.normal(0, 0.2, 80))
    inside = np.linspace(fit.x[0], fit.x[-1], 500)
    assert (np.diff(fit.predict(inside)) > 0).all()
    assert fit.predict([-9.0, 9.0]).tolist() == [fit.y[0], fit.y[-1]]


def test_a_falling_curve_is_the_rising_one_of_mirrored_scores() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.uniform(1, 2, 30), rng.uniform(0, 1, 30)
    falling, mirrored = IsotonicFit.of(x, y, increasing=False), IsotonicFit.of(-x, y)
    assert falling.predict(x) == pytest.approx(mirrored.predict(-x), abs=1e-12)
    assert (np.diff(falling.y) < 0).all()


def test_noise_alone_gives_few_levels_and_order_gives_itself_back() -> None:
    x = np.arange(6.0)
    assert IsotonicFit.of(x, -x).y.tolist() == [-2.5]  # no increase anywhere: the mean
    exact = IsotonicFit.of(x, x**2)
    assert exact.predict(x).tolist() == (x**2).tolist()
    assert kendall_tau(x, exact.predict(x)) == 1


def test_a_curve_survives_json_to_the_last_bit() -> None:
    rng = np.random.default_rng(4)
    fit = IsotonicFit.of(rng.normal(size=20), rng.normal(size=20))
    back = IsotonicFit.of_dict(json.loads(json.dumps(fit.to_dict())))
    assert (back.x == fit.x).all()
    assert (back.y == fit.y).all()


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ([], [], "not empty"),
        ([1.0, 2.0], [1.0], r"shapes \(2,\) and \(1,\)"),
        ([1.0, np.nan], [1.0, 2.0], "finite"),
    ],
)
def test_what_cannot_be_fitted_is_refused(x: list[float], y: list[float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        IsotonicFit.of(x, y)
