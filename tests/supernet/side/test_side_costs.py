"""Counted costs of side networks against the real ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hwnas.supernet.side.config import METHODS
from hwnas.supernet.side.costs import side_costs, side_workload
from hwnas.supernet.side.features import Features
from hwnas.supernet.side.layers import bit_histogram
from hwnas.supernet.side.network import side_network
from hwnas.workload.sam_geometry import GEOMETRIES
from tests.supernet.side.side_models import GEOMETRY, VARIANTS


def maps(network: Any, grid: int, images: int) -> Features:
    geometry = network.geometry
    x = torch.randn(images, grid, grid, geometry.dim)
    last = x if not network.embeds else torch.randn(images, geometry.neck_dim, grid, grid)
    return Features(tuple(x for _ in network.blocks), last)


@pytest.mark.parametrize(("method", "options"), VARIANTS)
def test_parameters_and_bytes_are_those_of_the_module(method: str, options: dict[str, Any]) -> None:
    network = side_network(GEOMETRY, method, **options)
    costs = side_costs(network.config, GEOMETRY, 128)
    assert costs.parameters == sum(p.numel() for p in network.parameters())
    assert costs.file_bytes == sum(t.numel() * 4 for t in network.state_dict().values())
    assert costs.parameters < costs.deployed_bytes
    assert costs.bitops == 64 * costs.macs


@pytest.mark.parametrize("resolution", [64, 96, 128])
@pytest.mark.parametrize(("method", "options"), VARIANTS)
@torch.no_grad()
def test_macs_are_those_that_torch_counts(
    method: str, options: dict[str, Any], resolution: int
) -> None:
    network = side_network(GEOMETRY, method, **options)
    frames = network.config.frames or 1
    features = maps(network, resolution // 16, frames)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(features, bit_histogram(None), frames=frames)
    own = side_costs(network.config, GEOMETRY, resolution, frames=frames).macs
    assert counter.get_total_flops() // 2 == own * frames


def test_figures_of_sam_b_at_its_own_resolution() -> None:
    geometry = GEOMETRIES["sam-vit-b"]
    found = {
        name: side_costs(config.changed(inject="before"), geometry, 1024)
        for name, config in METHODS.items()
    }
    # 12 x (channels 2 x 768 x 8, two axes of 2 x 64 x 8, 776 + 2 x 72 biases, norms 4 x 768)
    assert found["losa"].parameters == 12 * (12288 + 2048 + 920 + 3072) == 219936
    assert found["losa"].macs == 12 * 3 * 2 * 4096 * 768 * 8
    # 12 blocks of 12 x 96^2 + 13 x 96, a projection down and a gate each; one more down, one up
    assert found["lst"].parameters == 12 * (12 * 96**2 + 13 * 96 + 769 * 96 + 1) + 769 * 96 + (
        97 * 768
    )
    assert found["lst"].parameters > found["res_bypass"].parameters > found["losa"].parameters


def test_few_taps_cost_less() -> None:
    config = METHODS["losa"]
    every, some = (
        side_costs(config.changed(taps=taps), GEOMETRIES["sam-vit-b"], 1024)
        for taps in ("all", "global")
    )
    assert every.macs == 3 * some.macs
    assert every.parameters == 3 * some.parameters
    names = [layer.name for layer in side_workload(config, GEOMETRY, 128).layers]
    assert len(set(names)) == len(names)
