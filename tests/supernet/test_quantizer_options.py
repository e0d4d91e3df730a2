"""Other quantizers than the default ones: batch extremes, one scale a tensor, a centered grid."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hwnas.errors import ConfigError
from hwnas.quant.batch_range import NEUTRAL, BatchRange, normalized_range
from hwnas.quant.linear import integer_codes
from hwnas.quant.lsq import quantize_weight
from hwnas.quant.ranges import weight_scales
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.scale_table import ScaleTable, input_key, weight_key
from hwnas.workload.sam_plan import EncoderPlan
from tests.supernet.elastic_models import (
    TINY,
    calibrated,
    random_sam,
    relative_error,
    smooth_images,
)


def _net(**options: Any) -> SamSupernet:
    scales = ScaleTable(calibrated().encoder.scales.tensors(), **options)
    return SamSupernet(random_sam(), scales=scales)


def _image() -> torch.Tensor:
    return smooth_images()[0][None]


def _uniform(bits: int) -> EncoderPlan:
    return EncoderPlan.uniform(TINY, resolution=64, w_bits=bits, a_bits=bits, attn_bits=8)


def test_neutral_values_give_the_plain_extremes() -> None:
    scale, offset = normalized_range(torch.tensor([-1.0, 4.1]), torch.tensor(NEUTRAL), 8)
    torch.testing.assert_close(scale, torch.tensor(0.02))
    torch.testing.assert_close(offset, torch.tensor(-1.0))


def test_the_grid_is_that_of_the_formula() -> None:
    rng = torch.Generator().manual_seed(0)
    x, learned, q = torch.randn(500, generator=rng), torch.tensor([0.9, 1.7]), 15
    low, high = x.aminmax()
    s = (high - low) / q
    a, o = learned
    v = (x * torch.nn.functional.softplus(a) / s - low / s + o).clamp(0, q)
    scale, offset = BatchRange(learned, torch.zeros(2), 4)(x)
    ours = ((x - offset) / scale).clamp(0, q)
    torch.testing.assert_close(ours, v, rtol=1e-4, atol=1e-4)


def test_evaluation_uses_running_extremes() -> None:
    running = torch.tensor([-1.0, 1.0])
    BatchRange(torch.tensor(NEUTRAL), running, 8)(torch.tensor([-3.0, 5.0]))
    torch.testing.assert_close(running, torch.tensor([-1.2, 1.4]))


def test_batch_extremes_train_and_evaluate() -> None:
    net = _net(activation="batch")
    key = input_key("blocks.1.lin2", 4)
    before = net.embed(_image(), _uniform(4))
    # Converted from calibrated ranges: evaluation starts where the learned form is.
    assert relative_error(before, calibrated().embed(_image(), _uniform(4))) < 0.1
    net.encoder(_image(), _uniform(4)).square().mean().backward()
    grad = net.encoder.scales[key].grad
    assert grad is not None
    assert bool(grad.all())
    net.encoder.forget()
    assert not torch.equal(net.embed(_image(), _uniform(4)), before)


def test_a_batch_table_survives_its_tensors() -> None:
    table = _net(activation="batch", relative=True).encoder.scales
    table.get_parameter(input_key("blocks.0.qkv", 8).replace(".", "/")).data += 0.3
    again = ScaleTable(table.tensors(), **table.options)
    assert again.names() == table.names()
    for name, value in table.tensors().items():
        torch.testing.assert_close(again.tensors()[name], value)
    trained = {name for name, _ in table.named_parameters()}
    assert not any("/range/" in name for name in trained)


def test_an_unknown_activation_is_named() -> None:
    with pytest.raises(ConfigError, match="'dynamic' is none of learned, batch"):
        ScaleTable({}, activation="dynamic")  # type: ignore[arg-type]


def _per_tensor() -> SamSupernet:
    tensors = calibrated().encoder.scales.tensors()
    for index in range(TINY.depth):
        name = weight_key(f"blocks.{index}.qkv", 4)
        tensors[name] = tensors[name].mean().view(1)
    return SamSupernet(random_sam(), scales=ScaleTable(tensors, per_tensor=True))


def test_one_scale_a_tensor() -> None:
    weight = torch.randn(6, 8)
    assert weight_scales(weight, 4, per_tensor=True).shape == (1,)
    expected = weight_scales(weight.view(1, -1), 4)
    assert torch.equal(weight_scales(weight, 4, per_tensor=True), expected)
    net, plan = _per_tensor(), _uniform(4)
    assert relative_error(net.encoder(_image(), plan).detach(), net.embed(_image(), plan)) < 0.2
    net.encoder(_image(), plan).square().mean().backward()
    assert net.encoder.scales[weight_key("blocks.0.qkv", 4)].grad.shape == (1,)
    net.activate(plan)
    with torch.no_grad():
        assert torch.equal(net(_image()), net.subnet(plan)(_image()))


def test_the_centered_grid_has_no_zero_and_exact_integers() -> None:
    weight, scale = torch.randn(5, 30), torch.rand(5) + 0.1
    codes, factor = integer_codes(weight, scale, 2, centered=True)
    assert set(codes.unique().tolist()) <= {-3, -1, 1, 3}
    expected = quantize_weight(weight, scale, 2, centered=True)
    torch.testing.assert_close(codes * factor[:, None], expected)


def test_the_centered_grid_is_a_choice_of_the_table() -> None:
    net = _net(centered=True)
    with torch.no_grad():
        view = net.encoder.view(_uniform(2))
        codes = view.blocks[0].lin1.weight
    assert len(codes.unique()) <= 4 or 0 not in codes
    same = _net()
    assert torch.equal(net.embed(_image(), _uniform(4)), same.embed(_image(), _uniform(4)))
    assert not torch.equal(net.embed(_image(), _uniform(2)), same.embed(_image(), _uniform(2)))
    one = EncoderPlan(TINY, 64, _uniform(2).blocks[:1])
    trained = net.encoder(_image(), one).detach()
    assert relative_error(trained, net.embed(_image(), one)) < 2e-2
