from __future__ import annotations

import numpy as np
import pytest

from hwnas.device import DeviceProfile, find
from hwnas.errors import DeviceError
from hwnas.measure.kernels import FAMILIES
from hwnas.measure.lowering import steps_of, steps_of_layers
from hwnas.space import SearchSpace
from hwnas.workload import ops
from hwnas.workload.layers import LayerSpec, Workload
from hwnas.workload.ops import Bits
from search_spaces.mobile_cnn import mobile_cnn
from search_spaces.sam import sam_vit_b, sam_vit_t


@pytest.fixture
def device() -> DeviceProfile:
    return find("x86-avx512-vnni")


@pytest.mark.parametrize("build", [sam_vit_t, sam_vit_b, mobile_cnn])
def test_every_layer_of_the_shipped_spaces_has_a_kernel(build, device: DeviceProfile) -> None:
    space: SearchSpace = build()
    for arch in space.sample(np.random.default_rng(0), 5):
        workload = space.lower(arch)
        steps = steps_of(workload, device)
        names = [name for step in steps for name in step.layers]
        assert names == [layer.name for layer in workload.layers]
        assert {step.kernel.kind for step in steps} <= set(FAMILIES)


def test_slots_lower_as_the_whole_network_does(device: DeviceProfile) -> None:
    space = sam_vit_t()
    arch = space.sample(np.random.default_rng(3), 1)[0]
    whole = steps_of(space.lower(arch), device)
    parts = [
        step
        for slot in space.slots
        if all(gene in arch.genes for gene in slot.genes)
        for step in steps_of_layers(slot.layers(*(arch[g] for g in slot.genes)), device)
    ]
    assert sorted(s.kernel for s in parts) == sorted(s.kernel for s in whole)


def test_attention_becomes_one_kernel(device: DeviceProfile) -> None:
    space = sam_vit_t()
    steps = steps_of(space.lower(space.sample(np.random.default_rng(0), 1)[0]), device)
    fused = [step for step in steps if step.kernel.kind == "attention"]
    assert fused
    assert all(len(step.layers) == 5 and step.layers[0].endswith(".qk") for step in fused)
    assert all(step.kernel.dtype == "int8" for step in fused)


def test_the_profile_decides_the_arithmetic(device: DeviceProfile) -> None:
    def kernel(w_bits: int, a_bits: int) -> tuple[str, int, int]:
        layer = ops.linear("layer", 8, 16, 32, Bits(w_bits, a_bits, 32))
        (step,) = steps_of(Workload((layer,)), device)
        return step.kernel.dtype, step.kernel.w_bits, step.kernel.a_bits

    assert kernel(8, 8) == ("int8", 8, 8)
    assert kernel(4, 4) == ("int8", 4, 8)
    assert kernel(3, 8) == ("int8", 4, 8)
    assert kernel(2, 3) == ("int8", 2, 8)
    assert kernel(32, 32) == ("fp32", 32, 32)


def test_a_transposed_convolution_is_told_from_a_convolution(device: DeviceProfile) -> None:
    layers = (
        ops.conv("patches", (16, 8), 2, 4, Bits(32, 32, 32), stride=2),
        ops.conv_transpose("upscale", (16, 8), 2, 4, Bits(32, 32, 32)),
    )
    kinds = [step.kernel.kind for step in steps_of(Workload(layers), device)]
    assert kinds == ["conv", "conv_transpose"]


def test_scores_whose_softmax_has_no_shape_need_one(device: DeviceProfile) -> None:
    softmax = ops.elementwise("soft", "softmax", 64, 64, a_bits=32, out_bits=32)
    with pytest.raises(DeviceError, match=r"soft \(softmax\) has shape \(\); its kernel needs"):
        steps_of(Workload((softmax,)), device)


def test_a_softmax_alone_is_a_kernel(device: DeviceProfile) -> None:
    softmax = ops.elementwise(
        "soft", "softmax", 24, 24, a_bits=32, out_bits=32, shape=(1, 2, 3, 4, 0)
    )
    (step,) = steps_of(Workload((softmax,)), device)
    assert step.kernel.key == "softmax-6x4-fp32-w32a32"


def test_convolutions_in_groups_have_no_kernel(device: DeviceProfile) -> None:
    layer = ops.conv("grouped", (16, 16), 3, 4, Bits(32, 32, 32), groups=4)
    with pytest.raises(DeviceError, match="grouped is a convolution in 4 groups"):
        steps_of(Workload((layer,)), device)


def test_a_linear_layer_without_shape_is_refused(device: DeviceProfile) -> None:
    layer = LayerSpec("bare", "linear", 8, 8, 1, 8)
    with pytest.raises(DeviceError, match=r"bare \(linear\) has shape \(\)"):
        steps_of(Workload((layer,)), device)
