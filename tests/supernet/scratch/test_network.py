"""Modules and workloads of one plan: the same layers, weights, maps and products."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from hwnas.cost.lowering import lower
from hwnas.errors import ArchError
from hwnas.space import SearchSpace
from hwnas.supernet.scratch import BottleneckNet
from hwnas.workload.cnn_plan import CNNS, plan_of
from hwnas.workload.layers import LayerSpec
from search_spaces.mobile_cnn import mobile_cnn, tile_cnn, tile_cnn_mask

BUILDERS = [mobile_cnn, tile_cnn, tile_cnn_mask]


def network_of(space: SearchSpace, seed: int = 0, **genes: object) -> BottleneckNet:
    arch = space.arch({**space.smallest().genes, **genes})
    return BottleneckNet(plan_of(arch, CNNS[space.name]), seed)


def seen_maps(network: BottleneckNet, resolution: int) -> dict[str, torch.Size]:
    """The shape of the output of each layer with weights, by its name."""
    found: dict[str, torch.Size] = {}
    handles = [
        part.register_forward_hook(
            lambda _m, _i, out, name=name: found.update({name.removeprefix("ending."): out.shape})
        )
        for name, part in network.named_modules()
        if isinstance(part, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, resolution, resolution))
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("build", BUILDERS, ids=lambda b: b.__name__)
def test_layers_of_module_and_workload_agree(build: Callable[[], SearchSpace]) -> None:
    space = build()
    archs = [space.smallest(), *space.sample(np.random.default_rng(0), 3)]
    for arch in archs:
        network = BottleneckNet(plan_of(arch, CNNS[space.name]), 0)
        counted: dict[str, LayerSpec] = {
            x.name: x for x in lower(space, arch).layers if x.weight_elems and x.macs
        }
        probed = {layer.name: layer for layer in network.layers()}
        assert list(probed) == list(counted)
        maps = seen_maps(network, int(arch["resolution"]))
        for name, layer in counted.items():
            assert probed[name].numel == layer.weight_elems
            assert maps[name].numel() == layer.out_elems
            inputs_each = probed[name].weight[0].numel()
            assert layer.macs == maps[name].numel() * inputs_each


@pytest.mark.parametrize("build", BUILDERS[1:], ids=lambda b: b.__name__)
def test_logits_have_the_shape_of_the_task(build: Callable[[], SearchSpace]) -> None:
    space = build()
    found = network_of(space)(torch.randn(2, 3, 48, 48))
    assert found.shape == ((2, 4) if space.name == "tile-cnn" else (2, 2, 48, 48))


def test_weights_are_of_the_seed_alone() -> None:
    before = torch.random.get_rng_state()
    one, two = network_of(tile_cnn(), seed=5), network_of(tile_cnn(), seed=5)
    other = network_of(tile_cnn(), seed=6)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.stem.weight, other.stem.weight)
    assert all(torch.isfinite(tensor).all() for tensor in (*one.parameters(), *one.buffers()))


def test_residual_links_come_out() -> None:
    deep = {"stages.1.depth": 3}
    with_links, without = network_of(tile_cnn(), **deep), network_of(tile_cnn(), **deep)
    without.remove_residuals()
    x = torch.randn(2, 3, 48, 48)
    maps, cut = with_links.maps(x), without.maps(x)
    assert torch.equal(maps[0], cut[0])  # one block, whose stride is 2, has no link
    assert not torch.allclose(maps[1], cut[1])


def test_an_arch_of_another_space_has_no_plan() -> None:
    with pytest.raises(ArchError, match=r"gene stages\.4\.depth is None"):
        plan_of(tile_cnn().smallest(), CNNS["mobile-cnn"])


def test_pixels_read_the_last_map_of_each_side() -> None:
    assert CNNS["tile-cnn-mask"].lateral == (0, 2, 3)
    assert CNNS["mobile-cnn"].lateral == (0, 1, 3, 4)
