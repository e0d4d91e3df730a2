"""Hypervolume against closed forms, a slow twin and pymoo."""

import itertools
import math

import numpy as np
import pytest

from hwnas.search import hypervolume, non_dominated


def by_cells(f: np.ndarray, ref: np.ndarray) -> float:
    """Slow twin: cut space at every coordinate and add the cells that some point dominates."""
    f = f[(f < ref).all(axis=1)]
    edges = [np.unique(np.append(f[:, j], ref[j])) for j in range(len(ref))]
    total = 0.0
    for low in itertools.product(*(range(len(e) - 1) for e in edges)):
        corner = np.array([e[i] for e, i in zip(edges, low, strict=True)])
        if (f <= corner).all(axis=1).any():
            total += math.prod(e[i + 1] - e[i] for e, i in zip(edges, low, strict=True))
    return total


def front_of_pairs(f: np.ndarray) -> list[int]:
    """Slow twin of `non_dominated`: every pair, the first of equal rows."""

    def beaten(i: int) -> bool:
        return any(
            (f[j] <= f[i]).all() and ((f[j] < f[i]).any() or j < i)
            for j in range(len(f)) if j != i
        )  # fmt: skip

    return [i for i in range(len(f)) if not beaten(i)]


@pytest.mark.parametrize("n", [1, 2, 7, 50])
def test_staircases_have_a_closed_form(n: int) -> None:
    steps = np.arange(n, dtype=float)
    stairs = np.stack([steps, n - 1 - steps], axis=1)
    assert hypervolume(stairs, [n, n]) == n * (n + 1) / 2  # 1 + 2 + ... + n cells
    assert hypervolume(np.c_[stairs, np.zeros(n)], [n, n, 3]) == 3 * n * (n + 1) / 2


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_the_corner_of_a_cube_in_three_dimensions(n: int) -> None:
    i, j = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    points = np.stack([i, j, n - 1 - i - j], axis=-1).reshape(-1, 3).astype(float)
    points = points[points[:, 2] >= 0]
    # cells (a, b, c) of an n-cube with a + b + c >= n - 1: all but those of a smaller corner
    assert hypervolume(points, [n, n, n]) == n**3 - (n - 1) * n * (n + 1) / 6


def test_one_point_is_a_box_and_points_beyond_the_reference_add_nothing() -> None:
    assert hypervolume([[1.0, 2.0, 3.0]], [2, 4, 6]) == 6
    assert hypervolume([[1.0, 2.0, 3.0], [0.0, 9.0, 0.0]], [2, 4, 6]) == 6
    assert hypervolume([[1.0, 1.0]], [1, 1]) == 0
    assert hypervolume([], [1, 1]) == 0
    assert hypervolume([[3.0], [1.0]], [5]) == 4


@pytest.mark.parametrize("n_obj", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_sum_of_cells(n_obj: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    f = rng.integers(0, 6, (14, n_obj)).astype(float)  # many ties and duplicates
    ref = np.full(n_obj, 5.0)
    assert hypervolume(f, ref) == pytest.approx(by_cells(f, ref), rel=1e-12)


@pytest.mark.parametrize("n_obj", [2, 3, 4])
def test_equals_pymoo(n_obj: int) -> None:
    hv = pytest.importorskip("pymoo.indicators.hv")
    rng = np.random.default_rng(n_obj)
    f = rng.normal(size=(120, n_obj))
    f /= np.linalg.norm(f, axis=1, keepdims=True)
    ref = np.full(n_obj, 0.9)
    assert hypervolume(f, ref) == pytest.approx(hv.HV(ref_point=ref)(f), rel=1e-10)


def test_order_does_not_matter_and_more_points_never_hurt() -> None:
    rng = np.random.default_rng(0)
    f = rng.random((40, 3))
    whole = hypervolume(f, [1, 1, 1])
    assert hypervolume(f[::-1], [1, 1, 1]) == pytest.approx(whole, rel=1e-12)
    assert hypervolume(f[:20], [1, 1, 1]) <= whole


def test_what_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        hypervolume([[0.0, np.nan]], [1, 1])
    with pytest.raises(ValueError, match=r"shape \(1, 3\)"):
        hypervolume([[0.0, 0.0, 0.0]], [1, 1])


@pytest.mark.parametrize("n_obj", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [0, 1, 2, 60])
def test_non_dominated_equals_all_pairs(n: int, n_obj: int) -> None:
    f = np.random.default_rng(n + n_obj).integers(0, 5, (n, n_obj)).astype(float)
    assert np.flatnonzero(non_dominated(f)).tolist() == front_of_pairs(f)


def test_non_dominated_over_several_blocks() -> None:
    f = np.random.default_rng(0).random((1500, 3))
    mask = non_dominated(f)
    front = f[mask]
    for point in f[~mask]:
        assert ((front <= point).all(axis=1) & (front < point).any(axis=1)).any()
    assert non_dominated(front).all()
