"""Subnets of a training step."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.cost import CostContext, build
from hwnas.space import Archs, SearchSpace, load_space
from hwnas.supernet.training.sampling import SubnetSampler, draw_archs, opened


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return load_space("sam-vit-t")


def _bits_of(archs: Archs) -> set[object]:
    roles = {gene.name: gene.role for gene in archs.space.genes}
    return {v for a in archs for n, v in a.genes.items() if roles[n] == "bits"}


def test_a_phase_frees_its_roles_and_bits_only(space: SearchSpace) -> None:
    phase = opened(space, ["resolution"], [8, 4])
    archs = draw_archs(phase, np.random.default_rng(0), 20)
    assert _bits_of(archs) == {4, 8}
    assert {len(a.genes) for a in archs} == {len(space.largest().genes)}
    assert len({a.genes["resolution"] for a in archs}) > 1
    assert {a.genes["blocks.0.heads"] for a in archs} == {3}


def test_bits_that_attention_lacks_give_its_nearest(space: SearchSpace) -> None:
    largest = opened(space, [], [2]).largest()
    assert largest.genes["blocks.0.attn_bits"] == 4
    assert largest.genes["blocks.0.qkv.w_bits"] == 2


def test_sandwich_has_both_extremes(space: SearchSpace) -> None:
    sampler = SubnetSampler(space)
    archs = sampler.sandwich(np.random.default_rng(3), 2, resolution=256)
    assert len(archs) == 4
    assert set(archs.values("resolution")) == {256}
    assert archs[0].genes == {**space.largest().genes, "resolution": 256}
    uniform = _bits_of(archs[1:2])
    assert len(archs[1].genes) < len(archs[0].genes)
    assert len(uniform) <= 2  # attention has no 2 and 3 bits


def test_equal_subnets_train_once(space: SearchSpace) -> None:
    only = opened(space, [], [4])
    assert len(SubnetSampler(only).sandwich(np.random.default_rng(0), 2, resolution=512)) == 1


def test_equal_seeds_draw_equal_subnets(space: SearchSpace) -> None:
    one, two = (draw_archs(space, np.random.default_rng(5), 4).ids for _ in range(2))
    assert one == two


def test_tilt_covers_the_range_of_costs_and_independent_bits_do_not() -> None:
    """Section 8.2 of the literature notes: SAM-B at 1024 px, 3.7 to 31.1 TBitOPs."""
    space = opened(load_space("sam-vit-b"), [], [8, 4, 3, 2])
    bitops = build("bitops", CostContext(space))
    rng = np.random.default_rng(0)
    low, high = (
        float(bitops.evaluate(SubnetSampler(space).largest(bits))[0]) for bits in (2.0, 8.0)
    )

    def covered(archs: Archs) -> float:
        first, last = np.percentile(bitops.evaluate(archs), [0.1, 99.9])
        return float((last - first) / (high - low))

    assert covered(draw_archs(space, rng, 4000)) > 0.95
    assert covered(space.sample(rng, 4000)) < 0.5
