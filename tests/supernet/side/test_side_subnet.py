"""Side networks beside frozen, quantized subnets of a supernet."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hwnas.errors import ArchError, ConfigError
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.scale_table import ScaleTable
from hwnas.supernet.side.config import HISTOGRAM
from hwnas.supernet.side.encoder import SideEncoder
from hwnas.supernet.side.features import ExtractedBackbone, SubnetBackbone
from hwnas.supernet.side.layers import bit_histogram
from hwnas.supernet.side.network import side_network
from hwnas.workload.sam_plan import EncoderPlan
from tests.supernet.elastic_models import TINY, calibrated, mixed_plan, random_sam, smooth_images
from tests.supernet.side.side_models import leaves, shake

PLANS = {
    "mixed": mixed_plan(),
    "narrow": mixed_plan(dim=32),
    "pooled": mixed_plan(pool_stage=1),
    "small": mixed_plan(resolution=64),
    "float": EncoderPlan.uniform(TINY),
}
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("losa", {"film": True}),
    ("losa", {"inject": "after"}),
    ("lst", {}),
    ("lst", {"inject": "after", "film": True}),
    ("res_bypass", {"film": True}),
    ("res_bypass", {"inject": "after", "combine": "gate"}),
]


@pytest.fixture(scope="module")
def supernet() -> SamSupernet:
    return calibrated()


def inputs(plan: EncoderPlan) -> torch.Tensor:
    return smooth_images()[TINY.resolutions.index(plan.resolution)][None]


@pytest.mark.parametrize("plan", PLANS.values(), ids=list(PLANS))
@pytest.mark.parametrize(("method", "options"), METHODS)
def test_a_fresh_one_leaves_the_subnet_and_learns(
    supernet: SamSupernet, plan: EncoderPlan, method: str, options: dict[str, Any]
) -> None:
    images = inputs(plan)
    network = side_network(TINY, method, **options)
    encoder = SideEncoder(SubnetBackbone(supernet, plan), network)
    before = supernet.embed(images, plan)
    with torch.no_grad():
        assert torch.equal(encoder(images), before)
    shake(network)
    embedding = encoder(images)  # gradients pass the fake-quantized neck
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), embedding.detach(), rtol=1e-3, atol=1e-3)
    assert (embedding - before).abs().max() > 1e-3
    own = {id(p) for p in network.parameters()}
    assert {id(leaf) for leaf in leaves(embedding)} <= own
    embedding.square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    assert all(p.grad is None for p in supernet.parameters())


@torch.no_grad()
def test_a_dropped_block_hands_its_input_on(supernet: SamSupernet) -> None:
    plan = mixed_plan()  # without block 0
    backbone = SubnetBackbone(supernet, plan)
    found = backbone.read(inputs(plan), (-1, 0, 1, 3), embed=False)
    assert torch.equal(found.taps[0], found.taps[1])
    assert not torch.equal(found.taps[1], found.taps[2])
    assert found.taps[3] is found.last
    embedded = backbone.read(inputs(plan), (1,), embed=True)
    assert torch.equal(embedded.last, supernet.embed(inputs(plan), plan))


@torch.no_grad()
def test_taps_of_a_subnet_are_what_its_layers_see(supernet: SamSupernet) -> None:
    plan = EncoderPlan.uniform(TINY, w_bits=4, a_bits=8, attn_bits=8)
    images = inputs(plan)
    found = SubnetBackbone(supernet, plan).read(images, (0, 1, 2, 3), embed=False)
    view = supernet.encoder.view(plan)
    assert torch.equal(view.block(2, found.taps[1]), found.taps[2])
    other = SubnetBackbone(supernet, EncoderPlan.uniform(TINY)).read(images, (0,), embed=False)
    assert not torch.equal(other.taps[0], found.taps[0])


@torch.no_grad()
def test_film_tells_the_bits_apart(supernet: SamSupernet) -> None:
    float_plan, mixed = PLANS["float"], PLANS["mixed"]
    histogram = bit_histogram(mixed).view(2, HISTOGRAM // 2)
    # weights (4, 8, 3, 4), (2, 4, 8, 32), (32, 8, 4, 8) at 2, 3, 4, 6, 8, 32 bits
    torch.testing.assert_close(histogram[0] * 12, torch.tensor([1.0, 1, 4, 0, 4, 2]))
    torch.testing.assert_close(histogram[1] * 12, torch.tensor([0.0, 0, 2, 1, 7, 2]))
    assert torch.equal(bit_histogram(float_plan), bit_histogram(None))
    network = shake(side_network(TINY, "losa", film=True))
    features = SubnetBackbone(supernet, mixed).read(inputs(mixed), network.blocks, embed=False)
    added = [network(features, bit_histogram(plan)) for plan in (mixed, float_plan)]
    assert (added[0] - added[1]).abs().max() > 1e-3


def test_wrong_uses_are_refused(supernet: SamSupernet) -> None:
    backbone = SubnetBackbone(supernet, mixed_plan())
    with pytest.raises(ArchError, match="the subnet takes 128x128"):
        backbone.read(smooth_images()[0][None], (1,), embed=False)
    scales = ScaleTable(supernet.encoder.scales.tensors(), activation="batch")
    batch = SamSupernet(random_sam(), scales=scales)
    encoder = SideEncoder(SubnetBackbone(batch, mixed_plan()), side_network(TINY, "losa"))
    with pytest.raises(ConfigError, match="take inject after"):
        encoder(inputs(mixed_plan()))


@pytest.mark.parametrize("plan", PLANS.values(), ids=list(PLANS))
@pytest.mark.parametrize(("method", "options"), METHODS)
def test_an_extracted_subnet_gives_the_same(
    supernet: SamSupernet, plan: EncoderPlan, method: str, options: dict[str, Any]
) -> None:
    network = shake(side_network(TINY, method, **options))
    beside = SideEncoder(SubnetBackbone(supernet, plan), network)
    alone = SideEncoder(ExtractedBackbone(supernet.subnet(plan)), network)
    with torch.no_grad():
        assert torch.equal(alone(inputs(plan)), beside(inputs(plan)))
    if network.embeds:
        alone(inputs(plan)).square().mean().backward()
        assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    else:
        with pytest.raises(ConfigError, match="beside the supernet that it came from"):
            alone(inputs(plan))
