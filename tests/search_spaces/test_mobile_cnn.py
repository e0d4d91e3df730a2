"""The CNN space: shapes by hand, and the counts of a known network."""

import itertools

import numpy as np
import pytest

from hwnas.cost import CostContext, build
from hwnas.cost.lowering import lower
from hwnas.space.slots import layers_of
from search_spaces.mobile_cnn import mobile_cnn, tile_cnn, tile_cnn_mask


@pytest.fixture(scope="module")
def space():
    return mobile_cnn()


def test_it_has_kernel_and_expansion_of_each_stage(space):
    assert len(space.genes) == 1 + 5 * 6
    assert space.gene("stages.3.kernel").options == (3, 5, 7)
    assert space.gene("stages.0.expansion").options == (3, 4, 6)


def test_slots_give_the_lowered_layers(space):
    for arch in space.sample(np.random.default_rng(0), 5):
        workload = lower(space, arch)
        assert layers_of(space.slots, arch) == workload.layers
        assert workload.input_shape == (3, arch["resolution"], arch["resolution"])


def test_maps_and_channels_follow_from_layer_to_layer(space):
    for arch in space.sample(np.random.default_rng(1), 20):
        layers = [x for x in lower(space, arch).layers if x.kind in ("conv", "dwconv")]
        for before, after in itertools.pairwise(layers):
            assert before.shape[1] == after.shape[0]
            assert before.shape[5] == after.shape[5] * after.shape[3]
        assert layers[-1].shape[5] * 32 == arch["resolution"]


def test_the_smallest_arch_by_hand(space):
    def block(c_in, c_out, side, stride):
        wide = 3 * c_in
        dense = c_in * wide * (side * stride) ** 2 + wide * c_out * side**2
        return dense + wide * 9 * side**2

    expected, channels, side = 64 * 64 * 27 * 16, 16, 64
    for c_out, stride in zip((16, 32, 64, 80, 120), (2, 2, 2, 1, 2), strict=True):
        side //= stride
        expected += block(channels, c_out, side, stride) + block(c_out, c_out, side, 1)
        channels = c_out
    expected += 120 * 960 * side**2 + 960 * 1000
    arch = space.smallest()
    assert lower(space, arch).macs == expected


def test_populations_are_priced_by_stage(space):
    archs = space.sample(np.random.default_rng(2), 30)
    values = build("cost_models.bitops:Bitops", CostContext(space)).evaluate(archs)
    expected = [
        sum(x.macs * x.w_bits * x.a_bits for x in lower(space, arch).layers) / 1e9 for arch in archs
    ]
    assert values == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("build_space", [tile_cnn, tile_cnn_mask])
def test_networks_of_tiles_differ_under_one_layout(build_space):
    space = build_space()
    assert len(space.variables) == 4 * 4
    for arch in [space.smallest(), space.largest(), *space.sample(np.random.default_rng(3), 5)]:
        workload = lower(space, arch)
        assert layers_of(space.slots, arch) == workload.layers
        last = [x for x in workload.layers if x.name.startswith("stages.3")][-1]
        assert last.out_elems == 3 * 3 * {0.5: 32, 1.0: 64, 1.5: 96}[arch["stages.3.width"]]
        assert {layer.w_bits for layer in workload.layers if layer.weight_elems} == {8}


def test_the_ending_of_masks_by_hand():
    space = tile_cnn_mask()
    layers = [x for x in lower(space, space.smallest()).layers if x.group == "head"]
    names = [layer.name for layer in layers]
    assert names == [
        "lateral.3", "resize.2", "lateral.2", "lateral.2.add", "resize.0", "lateral.0",
        "lateral.0.add", "blend", "logits", "resize.logits",
    ]  # fmt: skip
    macs = 9 * 32 * 24 + 36 * 16 * 24 + 144 * 8 * 24 + 144 * 24 * 24 * 9 + 144 * 24 * 2
    assert sum(layer.macs for layer in layers) == macs
    assert layers[-1].out_elems == 48 * 48 * 2
