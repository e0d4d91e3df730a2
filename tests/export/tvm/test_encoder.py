"""The compiled encoder computes what the subnet computes, along the steps that are measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hwnas.device.lookup import from_dict
from hwnas.errors import DeviceError
from hwnas.export.tvm.agreement import compare_layers
from hwnas.export.tvm.encoder import EMBEDDING, IMAGE, encoder_program, norm_constants
from hwnas.export.tvm.interpreter import interpret
from hwnas.export.tvm.tracing import traced
from hwnas.export.tvm.weights import ProductWeight
from hwnas.export.tvm.writer import ProgramWriter
from hwnas.measure.builder import Builder
from hwnas.measure.kernel import Kernel
from hwnas.measure.lowering import steps_of_layers
from hwnas.quant.linear import ActivationGrid, QuantizedWeight, integer_codes, quantized_linear
from hwnas.supernet.encoder_view import Norm
from hwnas.workload.sam import encoder_layers
from hwnas.workload.sam_plan import EncoderPlan
from tests.export.tvm.tiny_subnets import EIGHT, MIXED, tiny
from tests.supernet.elastic_models import TINY

tvm_only = pytest.mark.tvm
PLANS = [
    pytest.param(EIGHT, id="eight bits"),
    pytest.param(MIXED, id="mixed", marks=pytest.mark.slow),
    pytest.param(EncoderPlan.uniform(TINY, resolution=64), id="floats", marks=pytest.mark.slow),
]
INTEGER = Kernel("linear", (4, 8, 6), "int8", 2, 8)


@pytest.mark.parametrize("plan", [EIGHT, MIXED], ids=["eight bits", "mixed"])
def test_the_trace_ends_with_the_subnets_own_output(plan: EncoderPlan) -> None:
    subnet, image = tiny(plan)
    embedding = torch.from_numpy(traced(subnet.view(), image).buffers[EMBEDDING])
    expected = subnet(image[None])[0].permute(1, 2, 0).ravel()
    assert torch.equal(embedding, expected)


@tvm_only
@pytest.mark.parametrize("plan", PLANS)
def test_every_layer_computes_what_torch_computes(plan: EncoderPlan, builder: Builder) -> None:
    subnet, image = tiny(plan)
    found = compare_layers(encoder_program(subnet, builder), subnet, image)
    assert found[-1].layer == EMBEDDING
    assert found[-1].error < 1e-2
    # A number on the border of two codes may fall to either side on another processor: one code of
    # one layer. Everything else is rounding of float32.
    own = np.array([layer.own_error for layer in found])
    assert own.max() < 1e-2, found[int(own.argmax())]
    assert (own > 2e-6).sum() <= 2
    quantized = [layer for layer in found if layer.codes]
    assert sum(layer.codes_differ for layer in quantized) <= 1e-3 * sum(
        layer.codes for layer in quantized
    )


@tvm_only
@pytest.mark.parametrize("plan", PLANS)
def test_exported_kernels_are_the_measured_ones(plan: EncoderPlan, builder: Builder) -> None:
    subnet, _ = tiny(plan)
    bound = encoder_program(subnet, builder)
    measured = [call.measured for call in bound.calls if call.measured is not None]
    steps = steps_of_layers(encoder_layers(plan), builder.device)
    assert measured == [step.kernel for step in steps]
    for call in bound.changed:  # only widths differ: the shapes are those that are timed
        assert call.measured is not None
        assert (call.kernel.kind, call.kernel.shape) == (call.measured.kind, call.measured.shape)
    if plan is EIGHT:
        assert [call.layer for call in bound.added] == ["neck.2"]
        assert not bound.changed


@tvm_only
def test_zeros_around_the_map_of_the_neck_count_as_zeros(builder: Builder) -> None:
    subnet, image = tiny(EIGHT)
    trace = traced(subnet.view(), image).buffers
    found = interpret(encoder_program(subnet, builder), {IMAGE: trace[IMAGE]}, given=trace.get)
    side = EIGHT.grid
    expected, padded, done = (
        part.reshape(side, side, -1)
        for part in (trace["neck.2"], found["neck.2.product"], found["neck.2"])
    )
    scale = np.abs(expected).max()
    assert np.abs(padded - expected)[1:-1, 1:-1].max() < 1e-6 * scale
    assert np.abs(padded - expected)[0].max() > 1e-4 * scale  # what the kernel pads with
    assert np.abs(done - expected).max() < 1e-6 * scale


@tvm_only
def test_a_shorter_network_than_the_measured_one_is_refused(builder: Builder) -> None:
    subnet, _ = tiny(EIGHT)
    writer = ProgramWriter(builder, steps_of_layers(encoder_layers(subnet.plan), builder.device))
    with pytest.raises(DeviceError, match=r"runs .neck\.0. where the measured network runs .patch"):
        writer.step("neck.0")
    with pytest.raises(DeviceError, match="does not run what the measured network runs: patch"):
        writer.finish(())


@tvm_only
def test_attention_that_the_device_cannot_quantize_is_refused(builder: Builder) -> None:
    host = builder.device.to_dict()
    pairs = [{"w": 32, "a": 32, "runs_as": "fp32"}]
    floats = from_dict({**host, "id": "floats-only", "pairs": pairs, "packed_weight_bits": []})
    subnet, _ = tiny(EIGHT)
    with pytest.raises(DeviceError, match=r"blocks.2: attention at 8 bits runs as fp32 on floats"):
        encoder_program(subnet, Builder(floats))


@tvm_only
def test_bits_beyond_the_device_are_refused(builder: Builder) -> None:
    host = builder.device.to_dict()
    bytes_only = {
        **host, "id": "bytes-only", "pairs": [{"w": 8, "a": 8, "runs_as": "int8"}],
        "fallback": None,
    }  # fmt: skip
    subnet, _ = tiny(MIXED)
    with pytest.raises(DeviceError, match=r"bytes-only cannot run w8a32"):
        encoder_program(subnet, Builder(from_dict(bytes_only)))


def test_the_centered_grid_of_two_bits_is_kept_in_four() -> None:
    torch.manual_seed(0)
    weight, scale = torch.randn(6, 8), torch.full((6,), 0.5)
    grid = ActivationGrid(0.1, -1.0, 255)
    for centered, bits in ((False, 2), (True, 4)):
        codes = QuantizedWeight.of(*integer_codes(weight, scale, 2, centered=centered))
        layer = quantized_linear(codes, torch.zeros(6), grid, integer=True)
        assert ProductWeight.of(layer).kernel(INTEGER).w_bits == bits


def test_a_layer_without_codes_is_refused() -> None:
    codes = QuantizedWeight.of(torch.ones(6, 8, dtype=torch.int8), torch.ones(6))
    layer = quantized_linear(codes, torch.zeros(6), ActivationGrid(1.0, 0.0, 255), integer=False)
    with pytest.raises(DeviceError, match="FakeLinear holds no integer codes"):
        ProductWeight.of(layer)


def test_a_norm_with_another_epsilon_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"adds 0\.001 to the variance"):
        norm_constants(Norm(torch.ones(4), torch.zeros(4), 1e-3))
