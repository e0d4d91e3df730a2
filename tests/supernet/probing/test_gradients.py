"""Moments of gradients against numpy, layers that share a weight, and networks made linear."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hwnas.errors import CostError
from hwnas.supernet.probing import ImageBatch, Probe, ProbedLayer, draw_weights, weight_layers
from hwnas.supernet.probing.gradients import GradientMoments, gradients_of, loss_gradients
from hwnas.supernet.probing.linear_forms import flow_gradients
from hwnas.supernet.probing.responses import code_agreement, log_step_response
from tests.supernet.probing.small_cnn import SmallCnn


def _layer(rows: int = 4) -> ProbedLayer:
    return ProbedLayer("a", nn.Parameter(torch.zeros(rows, 3)), rows)


@pytest.mark.parametrize("count", [2, 5])
def test_moments_equal_those_of_the_stack(count: int) -> None:
    rng = torch.Generator().manual_seed(0)
    stack = [torch.randn(4, 3, generator=rng) + 50 for _ in range(count)]
    moments = GradientMoments([_layer()])
    for gradient in stack:
        moments.add([gradient])
    found = np.stack([g.numpy().astype(np.float64) for g in stack])
    np.testing.assert_allclose(moments.absolute(0).numpy(), np.abs(found).mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.deviation(0).numpy(), found.std(0), rtol=1e-9)


def test_equal_gradients_have_no_deviation_at_all() -> None:
    moments = GradientMoments([_layer()])
    gradient = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    for _ in range(5):
        moments.add([gradient.clone()])
    assert not moments.deviation(0).any()


def test_layers_may_be_rows_of_one_weight_and_unused_ones_get_zeros() -> None:
    fused, idle = nn.Parameter(torch.randn(6, 2)), nn.Parameter(torch.ones(2, 2))
    layers = [
        ProbedLayer("q", fused, 3, rows=slice(0, 3)),
        ProbedLayer("k", fused, 3, rows=slice(3, 6)),
        ProbedLayer("idle", idle, 2),
    ]
    scale = torch.arange(12.0).view(6, 2)
    q, k, none = gradients_of((fused * scale).sum(), layers)
    assert torch.equal(q, scale[:3])
    assert torch.equal(k, scale[3:])
    assert not none.any()
    assert layers[1].numel == 6


def test_a_loss_that_is_not_finite_is_refused() -> None:
    module = nn.Linear(2, 1)
    probe = Probe(module, (2,), weight_layers(module), lambda batch: module(batch.images).sum() / 0)
    batch = ImageBatch(torch.ones(1, 2), torch.zeros(1))
    with pytest.raises(CostError, match="the loss of a batch is"):
        loss_gradients(probe, batch, probe.layers)


def test_dropout_is_off_and_norms_use_the_batch() -> None:
    module = SmallCnn(1, 4)
    probe = Probe(
        module, (3, 8, 8), weight_layers(module), lambda b: module(b.images).square().sum()
    )
    batch = ImageBatch(torch.randn(4, 3, 8, 8), torch.zeros(4))
    first = loss_gradients(probe, batch, probe.layers)
    module.norm.running_mean.fill_(100.0)
    second = loss_gradients(probe, batch, probe.layers)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_flow_of_two_linear_layers_is_the_product_of_absolute_weights() -> None:
    module = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    with torch.no_grad():
        module[0].bias.zero_()
        module[2].bias.zero_()
    expected = (module[2].weight.abs() @ module[0].weight.abs()).detach().double().sum()
    probe = Probe(module, (5,), weight_layers(module), lambda _: torch.zeros(()))
    flows = flow_gradients(probe, probe.layers)
    for flow, layer in zip(flows, probe.layers, strict=True):  # a flow is conserved layer by layer
        assert float((flow * layer.weight.detach()).sum()) == pytest.approx(
            float(expected), rel=1e-6
        )


def test_agreement_of_codes_equals_a_count_by_hand() -> None:
    module = SmallCnn(2, 4)
    draw_weights(module, 3)
    seen: list[torch.Tensor] = []
    module.act.register_forward_pre_hook(lambda _m, x: seen.append(x[0] > 0))
    for block in module.body:
        block.act.register_forward_pre_hook(lambda _m, x: seen.append(x[0] > 0))
    images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    probe = Probe(module, (3, 8, 8), weight_layers(module), lambda _: torch.zeros(()))
    found = code_agreement(probe, images)
    codes = torch.cat([x.flatten(1) for x in seen], dim=1)
    expected = [[int((a == b).sum()) for b in codes] for a in codes]
    assert np.array_equal(found, np.array(expected, dtype=np.float64))


def test_a_network_without_activations_has_no_codes() -> None:
    module = nn.Linear(2, 2)
    probe = Probe(module, (2,), weight_layers(module), lambda _: torch.zeros(()))
    with pytest.raises(CostError, match="no activations"):
        code_agreement(probe, torch.ones(2, 2))


def test_step_response_of_a_linear_map_and_the_scale_that_a_batch_norm_takes_away() -> None:
    plain = nn.Conv2d(3, 4, 1, bias=False)
    normed = nn.Sequential(plain, nn.BatchNorm2d(4))
    probe = Probe(plain, (3, 6, 6), weight_layers(plain), lambda _: torch.zeros(()))
    both = Probe(normed, (3, 6, 6), weight_layers(normed), lambda _: torch.zeros(()))
    rng = torch.Generator().manual_seed(5)
    _, e = torch.randn(2, 8, 3, 6, 6, generator=rng)
    with torch.no_grad():
        expected = (0.01 * plain(e)).flatten(1).norm(dim=1).mean().log()
    found = log_step_response(probe, 5, images=8, step=0.01)
    assert found == pytest.approx(float(expected), rel=1e-3)
    before = log_step_response(both, 5, images=8, step=0.01)
    with torch.no_grad():
        plain.weight.mul_(10)
    after = log_step_response(both, 5, images=8, step=0.01)
    assert after - before == pytest.approx(np.log(10), abs=1e-3)


def test_drawn_weights_follow_their_law_and_leave_the_global_generator_alone() -> None:
    module = nn.Sequential(nn.Conv2d(8, 64, 3), nn.BatchNorm2d(64), nn.Linear(64, 500))
    before = torch.get_rng_state()
    draw_weights(module, 1)
    first = module[0].weight.clone()
    assert float(first.detach().std()) == pytest.approx((2 / 72) ** 0.5, rel=0.05)
    assert not module[0].bias.any()
    draw_weights(module, 1)
    assert torch.equal(module[0].weight, first)
    draw_weights(module, 2, "gaussian")
    assert float(module[2].weight.detach().std()) == pytest.approx(1, rel=0.05)
    assert not torch.equal(module[0].weight, first)
    assert torch.equal(torch.get_rng_state(), before)
