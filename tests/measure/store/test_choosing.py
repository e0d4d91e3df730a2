"""What is chosen: what takes time and is not known yet; subnets that cover, and random ones."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np
import pytest

from hwnas.cost.lowering import lower
from hwnas.device import find
from hwnas.measure.choosing import (
    Census,
    choose_kernels,
    choose_subnets,
    most_uncertain,
    take_census,
)
from hwnas.measure.kernel import Kernel
from hwnas.space import SearchSpace, load_space
from hwnas.workload.layers import Workload


@dataclass(frozen=True)
class OneLayer:
    """A step that runs one layer as a kernel named after its sizes."""

    kernel: Kernel
    layers: tuple[str, ...]
    per_prompt: bool


def one_by_one(workload: Workload) -> list[OneLayer]:
    return [
        OneLayer(
            Kernel(layer.kind, layer.shape or (layer.in_elems,), "fp32", layer.w_bits, 32),
            (layer.name,),
            layer.per_prompt,
        )
        for layer in workload.layers
    ]


def linear(rows: int, bits: int = 32) -> Kernel:
    return Kernel("linear", (rows, 64, 64), "fp32", bits, 32)


def census(kernels: list[Kernel], ms: list[float], uses: list[float]) -> Census:
    sizes = np.log([[k.shape[0] * 4096.0, k.shape[0] * 128.0] for k in kernels])
    return Census(tuple(kernels), np.array(ms), np.array(uses), sizes, np.zeros(0))


@pytest.fixture(scope="module")
def toy() -> SearchSpace:
    return load_space("mobile-cnn")


def test_a_census_counts_every_call_and_adds_up_to_the_subnets(toy: SearchSpace) -> None:
    device = find("x86-avx512-vnni")
    archs = toy.sample(np.random.default_rng(0), 20)
    lowered = [lower(toy, arch) for arch in archs]
    found = take_census(((w, one_by_one(w)) for w in lowered), device)
    layers = sum(len(w.layers) for w in lowered)
    assert found.uses.sum() * 20 == pytest.approx(layers)
    assert len(set(found.kernels)) == len(found.kernels) < layers
    assert found.subnet_ms.mean() == pytest.approx(float(found.uses @ found.estimated_ms))
    assert (found.estimated_ms >= device.launch_s * 1e3).all()


def test_layers_of_a_prompt_count_once_a_prompt() -> None:
    space = load_space("sam-vit-t")
    workload = lower(space, space.smallest())
    steps = one_by_one(workload)
    device = find("x86-avx512-vnni")
    one, three = (take_census([(workload, steps)], device, prompts=p) for p in (1, 3))
    assert three.uses.sum() - one.uses.sum() == 2 * sum(s.per_prompt for s in steps)


def test_time_comes_first_then_what_is_unknown() -> None:
    kernels = [linear(100), linear(101), linear(10_000), linear(100, bits=4)]
    found = choose_kernels(census(kernels, [3.0, 2.9, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]))
    # the twin of the first is known well enough; another family and another size are not
    assert found == (kernels[0], kernels[3], kernels[2], kernels[1])


def test_a_longer_choice_begins_with_the_shorter() -> None:
    rng = np.random.default_rng(0)
    kernels = [
        linear(int(n), int(b)) for n, b in zip(range(50, 250), rng.choice([4, 8], 200), strict=True)
    ]
    taken = census(kernels, list(rng.random(200)), list(rng.random(200)))
    assert choose_kernels(taken, 60)[:20] == choose_kernels(taken, 20)
    assert sorted(choose_kernels(taken)) == sorted(kernels)


def test_subnets_cover_every_option_and_the_random_ones_the_range(toy: SearchSpace) -> None:
    pool = toy.sample(np.random.default_rng(1), 300).unique()
    ms = np.random.default_rng(2).random(len(pool))
    found = choose_subnets(pool, ms, 100, seed=3)
    rows = [row for row, _ in found]
    assert len(set(rows)) == 100
    assert choose_subnets(pool, ms, 40, seed=3) == found[:40]
    assert choose_subnets(pool, ms, 40, seed=4) != found[:40]
    covering = [row for row, why in found if why == "cover"]
    for column in range(pool.matrix.shape[1]):
        assert set(pool.matrix[covering, column]) | {-1} == set(pool.matrix[:, column]) | {-1}
    drawn = [row for row, why in found if why == "random"]
    ranks = np.argsort(np.argsort(ms))[list(islice(drawn, 20))] / len(pool)
    counts, _ = np.histogram(ranks, bins=5, range=(0, 1))
    assert counts.min() >= 3  # even a beginning is spread over the range


def test_a_pool_that_is_too_small_is_taken_whole(toy: SearchSpace) -> None:
    pool = toy.sample(np.random.default_rng(1), 5).unique()
    assert len(choose_subnets(pool, np.ones(len(pool)), 50)) == len(pool)
    assert choose_subnets(pool, np.ones(len(pool)), 0) == []


def test_the_widest_intervals_win_but_no_twins(toy: SearchSpace) -> None:
    pool = toy.sample(np.random.default_rng(1), 30).unique()
    twice = pool.take([0, 0, *range(1, 30)])
    value = np.ones(31)
    width = np.array([9.0, 8.9, *np.linspace(1.2, 2.0, 29)])
    assert most_uncertain(twice, value, width, 3) == [0, 30, 29]
    assert len(most_uncertain(twice, value, width, 31)) == 31
