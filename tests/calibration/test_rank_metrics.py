"""Rank metrics, splits and conformal quantiles against their definitions, spelled out."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from hwnas.calibration import (
    conformal_quantile,
    fewest_residuals,
    hold_out,
    kendall_tau,
    spearman_rho,
    top_k_overlap,
)
from hwnas.errors import ConfigError


def naive_tau(y: list[float], p: list[float]) -> float:
    concordant = discordant = free_y = free_p = 0
    for i, j in combinations(range(len(y)), 2):
        a, b = y[i] - y[j], p[i] - p[j]
        concordant += a * b > 0
        discordant += a * b < 0
        free_y += a != 0
        free_p += b != 0
    return (concordant - discordant) / math.sqrt(free_y * free_p)


def naive_rho(y: list[float], p: list[float]) -> float:
    def ranks(v: list[float]) -> list[float]:
        return [sum(o < x for o in v) + (sum(o == x for o in v) + 1) / 2 for x in v]

    a, b = ranks(y), ranks(p)
    ma, mb = sum(a) / len(a), sum(b) / len(b)
    over = sum((x - ma) * (z - mb) for x, z in zip(a, b, strict=True))
    under = math.sqrt(sum((x - ma) ** 2 for x in a) * sum((z - mb) ** 2 for z in b))
    return over / under


@pytest.mark.parametrize("seed", range(6))
def test_rank_metrics_equal_their_definition_and_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 6 if seed % 2 else 1000, 30).astype(float)  # odd seeds: many ties
    p = y + rng.normal(0, 3, 30).round(seed % 3)
    assert kendall_tau(y, p) == pytest.approx(naive_tau(y.tolist(), p.tolist()), abs=1e-12)
    assert kendall_tau(y, p) == pytest.approx(stats.kendalltau(y, p).statistic, abs=1e-12)
    assert spearman_rho(y, p) == pytest.approx(naive_rho(y.tolist(), p.tolist()), abs=1e-12)
    assert spearman_rho(y, p) == pytest.approx(stats.spearmanr(y, p).statistic, abs=1e-12)


def test_orders_that_agree_are_opposed_or_say_nothing() -> None:
    assert kendall_tau([1, 2, 3], [10, 20, 21]) == 1
    assert spearman_rho([1, 2, 3], [3, 2, 1]) == -1
    for metric in (kendall_tau, spearman_rho):
        assert metric([1, 2, 3], [5, 5, 5]) is None
        assert metric([1], [1]) is None
        assert metric([], []) is None


def test_what_cannot_be_ranked_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"shape \(2,\) and predicted ones of shape \(3,\)"):
        kendall_tau([1, 2], [1, 2, 3])
    with pytest.raises(ConfigError, match="finite"):
        spearman_rho([1, 2], [1, math.nan])


def test_top_k_overlap_counts_common_members() -> None:
    assert top_k_overlap([9, 8, 7, 1, 0], [9, 0, 8, 7, 1], 3) == pytest.approx(2 / 3)
    assert top_k_overlap([1, 1, 1], [1, 1, 1], 2) == 1  # ties go to the earlier
    with pytest.raises(ConfigError, match="expected 1 to 3"):
        top_k_overlap([1, 2, 3], [1, 2, 3], 4)


def test_conformal_quantile_has_the_finite_sample_rank() -> None:
    residuals = [-0.5, 0.1, 0.2, -0.3, 0.4, 0.6, 0.7, 0.8, 0.9]
    assert conformal_quantile(residuals, 0.9) == 0.9  # ceil(10 x 0.9) = 9th of 9
    assert conformal_quantile(residuals[:8], 0.9) is None
    assert conformal_quantile(residuals, 0.5) == 0.5
    assert [fewest_residuals(level) for level in (0.8, 0.9, 0.95)] == [4, 9, 19]
    with pytest.raises(ConfigError, match="level is 90"):
        conformal_quantile(residuals, 90)


def test_intervals_cover_what_they_promise() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        q = conformal_quantile(rng.normal(0, 1, 20), 0.8)
        assert q is not None
        covered.append(np.mean(np.abs(rng.normal(0, 1, 200)) <= q))
    assert 0.80 <= np.mean(covered) <= 0.83  # at least the level, at most 1 / (n + 1) more


def test_equal_architectures_are_never_on_both_sides() -> None:
    groups = [f"arch {i % 40}" for i in range(100)]
    out = hold_out(groups, 0.25)
    assert {g for g, o in zip(groups, out, strict=True) if o}.isdisjoint(
        g for g, o in zip(groups, out, strict=True) if not o
    )
    assert len({g for g, o in zip(groups, out, strict=True) if o}) == 10
    back = hold_out(groups[::-1], 0.25)[::-1]
    assert (back == out).all()
    assert hold_out(groups, 0.01, at_least=9).sum() >= 9
    with pytest.raises(ConfigError, match="a share of 1"):
        hold_out(groups, 1.0)
