"""GPU kernels: their arithmetic compiled for this processor, and their code generated for CUDA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwnas.device import find
from hwnas.errors import DeviceError
from hwnas.measure.builder import Builder
from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels import FAMILIES
from hwnas.measure.kernels.gpu import GPU, emit_gpu, schedule_gpu
from hwnas.measure.numerics import check_result

tvm = pytest.importorskip("tvm")
pytestmark = pytest.mark.tvm

KERNELS = (
    "linear-5x12x20-fp32-w32a32",
    "linear-5x12x20-fp16-w16a16",
    "linear-5x12x20-bf16-w16a16",
    "linear-5x12x20-fp16-w4a16",
    "linear-5x12x20-int8-w8a8",
    "linear-5x18x20-int8-w6a8",
    "linear-5x18x20-int8-w2a8",
    "conv-4x6x3x1x1x5-int8-w4a8",
    "conv-4x6x3x2x1x5-fp32-w32a32",
    "conv-3x6x4x4x1x3-int8-w8a8",
    "conv_transpose-8x6x2x2x1x3-fp32-w32a32",
    "dwconv-6x6x3x2x6x4-int8-w8a8",
    "dwconv-6x6x3x1x6x4-fp32-w32a32",
    "attention-2x2x3x8-fp32-w32a32",
    "attention-2x2x3x8-int8-w8a8",
    "cross_attention-2x4x5x8-int8-w8a8",
    "cross_attention-2x4x5x8-fp16-w16a16",
    "matmul-2x3x4x5-int8-w8a8",
    "matmul-2x3x4x5-fp32-w32a32",
    "norm-4x10-fp32-w32a32",
    "softmax-4x10-fp32-w32a32",
    "add-20-fp32-w32a32",
    "gelu-20-fp32-w32a32",
    "relu-20-fp32-w32a32",
    "copy-20-fp32-w32a32",
    "quantize-20-fp32-w32a32",
    "window-5x2x3-fp32-w32a32",
    "unwindow-5x2x3-fp32-w32a32",
    "pool-4x3x2-fp32-w32a32",
    "resize-3x3x6-fp32-w32a32",
    "fourier-2x4-fp32-w32a32",
)


@pytest.mark.parametrize("key", KERNELS)
def test_computes_what_torch_computes(key: str) -> None:
    kernel = Kernel.from_key(key)
    module = tvm.compile(tvm.IRModule({"main": emit_gpu(kernel)}), target={"kind": "llvm"})
    problem = FAMILIES[kernel.kind].problem(kernel, GPU, np.random.default_rng(7))
    output = tvm.runtime.tensor(np.full(problem.output, np.nan, np.float32))
    arguments = [tvm.runtime.tensor(a) for a in (*problem.inputs, *problem.constants)]
    module(*arguments, output)
    check_result(key, output.numpy(), problem)


@pytest.mark.parametrize("key", KERNELS)
def test_gets_cuda_code(key: str) -> None:
    target = tvm.target.Target("nvidia/jetson-agx-orin-64gb")
    module = schedule_gpu(tvm.IRModule({"main": emit_gpu(Kernel.from_key(key))}), target)
    assert tvm.compile(module, target=target) is not None


def test_the_builder_keeps_an_archive(tmp_path: Path) -> None:
    builder = Builder(find("jetson-agx-orin-64gb"), tmp_path)
    built = builder.build(Kernel.from_key("linear-5x12x20-int8-w8a8"))
    assert built.library is not None
    assert built.library.suffix == ".tar"
    assert built.object is None
    assert not built.checked


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(DeviceError, match="no GPU kernels of kind 'fft'"):
        emit_gpu(Kernel("fft", (4,), "fp32", 32, 32))
