"""Counts that proxies are compared with, and which way quality goes with a cost model."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hwnas.cost import CostContext
from hwnas.cost.lowering import lower
from hwnas.cost.proxies import DEPTH, LOG_MACS, LOG_PARAMS, Counts, quality_sign
from hwnas.space import SearchSpace, ordinal, repeat
from search_spaces.mobile_cnn import mobile_cnn
from search_spaces.sam import sam_vit_t
from search_spaces.toy import toy


@pytest.mark.parametrize("space", [toy(), mobile_cnn(), sam_vit_t()], ids=lambda s: s.name)
def test_counts_equal_sums_over_the_layers(space: SearchSpace) -> None:
    archs = space.sample(np.random.default_rng(0), 6)
    found = Counts(CostContext(space)).of(archs)
    assert list(found) == [LOG_PARAMS, LOG_MACS, DEPTH]
    for i, arch in enumerate(archs):
        once = [layer for layer in lower(space, arch).layers if not layer.per_prompt]
        params = sum(layer.weight_elems + layer.bias_elems for layer in once)
        assert found[LOG_PARAMS][i] == pytest.approx(np.log(params))
        assert found[LOG_MACS][i] == pytest.approx(np.log(sum(layer.macs for layer in once)))
        assert found[DEPTH][i] == sum(layer.macs > 0 and layer.weight_elems > 0 for layer in once)


def test_depth_of_the_encoder_grows_with_its_blocks() -> None:
    space = sam_vit_t()
    archs = space.sample(np.random.default_rng(1), 30)
    kept = sum(archs.values(f"keep.{stage}").astype(float) for stage in range(4))
    depth = Counts(CostContext(space)).of(archs)[DEPTH]
    order = np.argsort(kept)
    assert (np.diff(depth[order]) >= 0).all()
    assert (np.diff(depth[order]) > 0).sum() == len(set(kept)) - 1


def test_a_space_without_layers_knows_its_depth_genes_alone() -> None:
    space = SearchSpace(
        "plain",
        [ordinal("depth", (1, 2, 3), role="depth"), repeat("b", 3, [ordinal("w", (1, 2))],
                                                           depth="depth")],
    )  # fmt: skip
    archs = space.sample(np.random.default_rng(0), 8)
    found = Counts(CostContext(space)).of(archs)
    assert list(found) == [DEPTH]
    assert found[DEPTH].tolist() == [float(arch["depth"]) for arch in archs]
    flat = SearchSpace("flat", [ordinal("w", (1, 2))])
    assert Counts(CostContext(flat)).of(flat.sample(np.random.default_rng(0), 2)) == {}


@pytest.mark.parametrize(
    ("direction", "fidelity", "sign"),
    [
        ("max", "proxy", 1), ("max", "predicted", 1), ("min", "proxy", -1), ("min", "analytic", 1),
        ("min", "measured", 1),
    ],
)  # fmt: skip
def test_quality_falls_with_a_distortion_and_grows_with_what_it_costs(
    direction: str, fidelity: str, sign: int
) -> None:
    assert quality_sign(SimpleNamespace(direction=direction, fidelity=fidelity)) == sign
    assert quality_sign(SimpleNamespace(direction="min")) == 1
