"""Partial rank correlation against the closed form and against what it is for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hwnas.calibration import spearman_rho
from hwnas.calibration.partial import partial_spearman
from hwnas.errors import ConfigError


@pytest.mark.parametrize("seed", range(4))
def test_one_column_gives_the_closed_form(seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=50)
    y, p = z + rng.normal(size=50), (z + rng.normal(size=50)).round(1)
    xy, xz, yz = (spearman_rho(a, b) or 0.0 for a, b in ((p, y), (p, z), (y, z)))
    expected = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    assert partial_spearman(y, p, z[:, None]) == pytest.approx(expected, abs=1e-12)


def test_two_columns_equal_residuals_of_a_regression() -> None:
    rng = np.random.default_rng(5)
    given = rng.normal(size=(60, 2))
    y, p = given @ [1, 2] + rng.normal(size=60), given @ [2, 0] + rng.normal(size=60)
    columns = np.column_stack([np.ones(60), *(stats.rankdata(c) for c in given.T)])
    rest = [r - columns @ np.linalg.pinv(columns) @ r for r in map(stats.rankdata, (y, p))]
    expected = np.corrcoef(*rest)[0, 1]
    assert partial_spearman(y, p, given) == pytest.approx(expected, abs=1e-9)


def test_what_size_explains_is_gone_and_the_rest_stays() -> None:
    rng = np.random.default_rng(6)
    size, talent = rng.normal(size=400), rng.normal(size=400)
    quality = 3 * size + talent
    counts_only = size + 0.1 * rng.normal(size=400)
    knows_more = size + 0.5 * talent
    assert (spearman_rho(quality, counts_only) or 0) > 0.9
    assert abs(partial_spearman(quality, counts_only, size[:, None]) or 0) < 0.15
    assert (partial_spearman(quality, knows_more, size[:, None]) or 0) > 0.8


def test_a_score_that_is_the_size_has_none() -> None:
    rng = np.random.default_rng(7)
    size = rng.normal(size=30)
    y = rng.normal(size=30)
    assert partial_spearman(y, np.exp(size), size[:, None]) is None
    assert partial_spearman(y, np.ones(30), size[:, None]) is None
    assert partial_spearman(y[:3], size[:3], size[:3, None]) is None


def test_nothing_given_is_spearman() -> None:
    rng = np.random.default_rng(8)
    y, p = rng.normal(size=20), rng.normal(size=20)
    assert partial_spearman(y, p, np.empty((20, 0))) == pytest.approx(spearman_rho(y, p))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected \(n,\), \(n,\) and \(n, c\)"):
        partial_spearman([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4])
    with pytest.raises(ConfigError, match="finite"):
        partial_spearman([1, 2, 3, 4], [1, 2, 3, np.inf], [[1], [2], [3], [4]])
