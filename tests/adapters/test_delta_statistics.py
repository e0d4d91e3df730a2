"""Statistics of deltas on matrices whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch

from hwnas.adapters.delta_statistics import delta_overlap, delta_spread
from hwnas.errors import ConfigError


def directions(n: int, k: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(drawn).Q


def test_even_singular_values_use_all_their_directions() -> None:
    found = delta_spread(directions(30, 5) @ directions(20, 5, 1).t() * 3)
    assert found.rank == 5
    assert found.effective_rank == pytest.approx(5)
    assert found.first_share == pytest.approx(1 / 5)
    assert found.norm == pytest.approx(3 * math.sqrt(5))


def test_one_direction_and_none() -> None:
    assert delta_spread(torch.outer(torch.ones(4), torch.ones(3))).effective_rank == pytest.approx(
        1
    )
    assert delta_spread(torch.zeros(4, 3)).rank == 0


def test_a_delta_overlaps_with_itself() -> None:
    delta = directions(30, 5) @ directions(20, 5, 1).t()
    found = delta_overlap(delta, -2 * delta)
    assert (found.rows, found.columns) == pytest.approx((1, 1))
    assert found.cosine == pytest.approx(-1)
    assert found.interference == pytest.approx(2)


def test_orthogonal_inputs_do_not_interfere() -> None:
    u, v = directions(30, 4), directions(20, 8, 1)
    found = delta_overlap(u @ v[:, :4].t(), u @ v[:, 4:].t())
    assert found.rows == pytest.approx(1)
    assert found.columns == pytest.approx(0, abs=1e-12)
    assert found.interference == pytest.approx(0, abs=1e-6)
    assert found.cosine == pytest.approx(0, abs=1e-12)


def test_random_subspaces_overlap_by_rank_over_width() -> None:
    a = directions(400, 8, 2) @ directions(200, 8, 3).t()
    b = directions(400, 8, 4) @ directions(200, 8, 5).t()
    found = delta_overlap(a, b)
    assert found.rows == pytest.approx(8 / 400, abs=0.02)
    assert found.columns == pytest.approx(8 / 200, abs=0.02)


def test_only_trained_deltas_of_one_layer_are_compared() -> None:
    with pytest.raises(ConfigError, match="expected two of the same layer, both trained"):
        delta_overlap(torch.ones(3, 4), torch.zeros(3, 4))
    with pytest.raises(ConfigError, match=r"\(3, 4\) and \(4, 3\)"):
        delta_overlap(torch.ones(3, 4), torch.ones(4, 3))
