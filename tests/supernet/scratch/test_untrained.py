"""Networks made on demand: the probes of them, and ZiCo-BC in its paper's setting."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from cost_models.iou import Iou
from cost_models.zico import Zico, ZicoBc
from hwnas.cost import CostContext
from hwnas.cost.lowering import lower
from hwnas.errors import CheckpointError, CostError
from hwnas.space import SearchSpace
from hwnas.supernet.probing import BatchSize, Probeable
from hwnas.supernet.scratch import UntrainedCnn, build
from hwnas.testing import check_cost_model
from hwnas.workload.cnn_plan import CNNS
from search_spaces.mobile_cnn import tile_cnn, tile_cnn_mask
from tests.supernet.scratch.dots import dots

SPACES = [tile_cnn, tile_cnn_mask]


def context_of(space: SearchSpace) -> CostContext:
    images = [dots(seed) for seed in range(6)]
    return CostContext(space, supernet=lambda: build(space.name), data=lambda: images)


def small(space: SearchSpace) -> Any:
    return space.arch({**space.smallest().genes, "stages.1.depth": 3})


@pytest.mark.parametrize("make", SPACES, ids=lambda m: m.__name__)
def test_zico_bc_in_the_mode_of_its_paper(make: Any) -> None:
    space = make()
    arch, options = small(space), {"mode": "paper", "batch_images": 8}
    plain = Zico(context_of(space), **options).diagnose(arch)
    corrected = ZicoBc(context_of(space), beta=1.0, **options).evaluate([arch])[0]
    layers = [x for x in lower(space, arch).layers if x.weight_elems]
    penalty = sum(
        math.log(
            (1 if x.kind == "linear" else x.shape[5] ** 2)
            / math.sqrt(x.shape[2 if x.kind == "linear" else 1])
        )
        for x in layers
    )
    assert plain.penalty == pytest.approx(penalty)
    assert corrected == pytest.approx(plain.score - penalty)
    assert not plain.skipped


@pytest.mark.parametrize("make", SPACES, ids=lambda m: m.__name__)
def test_zico_keeps_its_promises_on_it(make: Any) -> None:
    context = context_of(make())
    model = Zico(context, mode="paper", batch_images=4)
    assert check_cost_model(model, context, n=2) == []


def test_the_paper_takes_residual_links_out() -> None:
    space = tile_cnn()
    probe = UntrainedCnn(CNNS["tile-cnn"]).probe(small(space), weights="fresh", seed=0)
    x = torch.randn(4, 3, 48, 48)
    before = probe.map_of(x)
    assert probe.remove_residuals is not None
    probe.remove_residuals()
    assert not torch.allclose(before, probe.map_of(x))


def test_batches_are_the_same_for_every_arch() -> None:
    space = tile_cnn()
    source = build("tile-cnn")
    assert isinstance(source, Probeable)
    images, size = [dots(seed) for seed in range(6)], BatchSize(3, 8, seed=4)
    one = source.probe_batches(space.smallest(), images, size)
    two = build("tile-cnn").probe_batches(space.largest(), images, size)
    assert [len(batch.images) for batch in one] == [8, 8, 8]
    assert all(torch.equal(a.images, b.images) for a, b in zip(one, two, strict=True))
    assert torch.bincount(torch.cat([b.targets for b in one])).tolist() == [6] * 4
    other = source.probe_batches(space.smallest(), images[:3], size)
    assert not torch.equal(other[0].images, one[0].images)


def test_what_it_cannot_do_is_said() -> None:
    space = tile_cnn()
    with pytest.raises(CheckpointError, match="share no weights"):
        build("weights.safetensors")
    with pytest.raises(CostError, match="no weights to inherit"):
        Zico(context_of(space), weights="inherited").evaluate([space.smallest()])
    with pytest.raises(CostError, match="iou: UntrainedCnn embeds no images"):
        Iou(context_of(space)).evaluate([space.smallest()])


def test_deep_networks_score_high_and_the_correction_takes_it_back() -> None:
    space = tile_cnn()
    shallow, deep = space.smallest(), space.freeze({"stages.*.depth": 4}).smallest()
    options = {"mode": "paper", "batch_images": 8}
    plain = Zico(context_of(space), **options).evaluate([shallow, deep])
    taken = ZicoBc(context_of(space), beta=2.0, **options).evaluate([shallow, deep])
    assert plain[1] > plain[0]
    assert np.diff(taken)[0] < np.diff(plain)[0]
