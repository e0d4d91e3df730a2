"""Bootstrap draws of rank metrics against the plain metric on the drawn rows."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.calibration import bootstrap as module
from hwnas.calibration import kendall_tau, spearman_rho
from hwnas.calibration.bootstrap import (
    draw_rows,
    each_draw,
    kendall_of_draws,
    percentile_interval,
    spearman_of_draws,
)
from hwnas.errors import ConfigError


@pytest.mark.parametrize("ties", [False, True])
def test_vectorized_draws_equal_the_metric_of_the_drawn_rows(
    ties: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", 7)  # several blocks of pairs, the last one smaller
    rng = np.random.default_rng(0)
    y = rng.normal(size=40).round(0 if ties else 9)
    p = (y + rng.normal(size=40)).round(0 if ties else 9)
    rows = draw_rows(40, 30, rng)
    for fast, slow in ((kendall_of_draws, kendall_tau), (spearman_of_draws, spearman_rho)):
        expected = each_draw(lambda r, slow=slow: slow(y[r], p[r]), rows)  # type: ignore[misc]
        assert fast(y, p, rows) == pytest.approx(expected, abs=1e-12)


def test_a_draw_without_order_is_nan() -> None:
    rows = np.array([[0, 0, 0], [0, 1, 2]])
    for metric in (kendall_of_draws, spearman_of_draws):
        found = metric([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], rows)
        assert np.isnan(found[0])
        assert found[1] == pytest.approx(-1)


def test_equal_generators_draw_equal_rows() -> None:
    one, two = (draw_rows(9, 5, np.random.default_rng(3)) for _ in range(2))
    assert (one == two).all()
    assert one.shape == (5, 9)
    assert one.min() >= 0
    assert one.max() <= 8


def test_intervals_are_percentiles_of_what_is_defined() -> None:
    draws = np.arange(101.0)
    assert percentile_interval(draws, 0.9) == pytest.approx((5.0, 95.0))
    assert percentile_interval([*draws, np.nan], 0.9) == pytest.approx((5.0, 95.0))
    assert percentile_interval([1.0, np.nan, np.nan]) is None
    assert percentile_interval([]) is None
    with pytest.raises(ConfigError, match="level is 95"):
        percentile_interval(draws, 95)


def test_intervals_cover_the_correlation_of_the_population() -> None:
    """Spearman's rho of a bivariate normal is 6 / pi x arcsin(r / 2)."""
    rng = np.random.default_rng(4)
    true, covered = 6 / np.pi * np.arcsin(0.6 / 2), 0
    for _ in range(60):
        a = rng.normal(size=100)
        b = 0.6 * a + 0.8 * rng.normal(size=100)
        found = percentile_interval(spearman_of_draws(a, b, draw_rows(100, 200, rng)))
        assert found is not None
        covered += found[0] <= true <= found[1]
    assert 51 <= covered <= 60  # 57 are meant
