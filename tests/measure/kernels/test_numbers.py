"""Every kind of kernel computes what torch computes, on every vector unit that runs here."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels import FAMILIES, isa_of
from hwnas.measure.numerics import check_result

tvm = pytest.importorskip("tvm")
pytestmark = pytest.mark.tvm

# Odd sizes everywhere: tiles, vectors and packed bytes all have a rest.
KERNELS = (
    "linear-30x100x70-fp32-w32a32",
    "linear-30x100x70-fp16-w16a16",
    "linear-30x100x70-bf16-w16a16",
    "linear-30x100x70-fp32-w4a32",
    "linear-30x100x70-fp16-w6a16",
    "linear-30x100x70-int8-w8a8",
    "linear-30x100x70-int8-w6a8",
    "linear-30x100x70-int8-w4a8",
    "linear-3x100x70-int8-w2a8",
    "linear-3x100x70-int8-w6a8",
    "conv-8x20x3x1x1x9-int8-w8a8",
    "conv-8x20x3x2x1x5-fp32-w32a32",
    "conv-3x20x4x4x1x5-int8-w4a8",
    "conv_transpose-16x10x2x2x1x6-int8-w8a8",
    "conv_transpose-16x10x2x2x1x6-fp32-w32a32",
    "dwconv-20x20x3x2x20x7-int8-w8a8",
    "dwconv-20x20x5x1x20x7-fp32-w32a32",
    "attention-2x2x5x12-fp32-w32a32",
    "attention-2x2x5x12-int8-w8a8",
    "attention-2x2x5x12-int8-w4a4",
    "cross_attention-2x7x9x24-int8-w8a8",
    "cross_attention-2x7x9x24-fp32-w32a32",
    "cross_attention-1x26x1100x20-fp32-w32a32",  # so many keys are summed in parts
    "cross_attention-1x26x1100x20-int8-w8a8",
    "matmul-3x10x20x30-int8-w8a8",
    "matmul-3x10x20x30-fp32-w32a32",
    "matmul-2x4x20x32-fp32-w32a32",
    "norm-10x30-fp32-w32a32",
    "softmax-10x30-fp32-w32a32",
    "add-100-fp32-w32a32",
    "gelu-100-fp32-w32a32",
    "relu-100-fp32-w32a32",
    "copy-100-fp32-w32a32",
    "quantize-100-fp32-w32a32",
    "window-5x2x6-fp32-w32a32",
    "unwindow-5x2x6-fp32-w32a32",
    "pool-6x10x2-fp32-w32a32",
    "resize-3x10x6-fp32-w32a32",
    "fourier-2x8-fp32-w32a32",
)


def _processors() -> list[str]:
    """This machine's processor, and older ones of its kind whose instructions it has."""
    codegen = tvm.target.codegen
    here = codegen.llvm_get_system_cpu()
    if not codegen.llvm_get_system_triple().startswith("x86_64"):
        return [here]
    target = tvm.target.Target({"kind": "llvm", "mcpu": here})
    older = {"nehalem": "sse4.2", "haswell": "avx2", "skylake-avx512": "avx512vl"}
    has = codegen.target_has_features
    return [here, *(name for name, feature in older.items() if has([feature], target))]


@pytest.mark.parametrize("processor", _processors())
@pytest.mark.parametrize("key", KERNELS)
def test_computes_what_torch_computes(key: str, processor: str) -> None:
    kernel = Kernel.from_key(key)
    target = tvm.target.Target({"kind": "llvm", "mcpu": processor})
    isa, family = isa_of(target), FAMILIES[kernel.kind]
    module = tvm.compile(tvm.IRModule({"main": family.emit(kernel, isa)}), target=target)
    problem = family.problem(kernel, isa, np.random.default_rng(7))
    output = tvm.runtime.tensor(np.full(problem.output, np.nan, np.float32))
    arguments = [tvm.runtime.tensor(a) for a in (*problem.inputs, *problem.constants)]
    module(*arguments, output)
    check_result(key, output.numpy(), problem)


def test_every_family_is_tested() -> None:
    assert {Kernel.from_key(key).kind for key in KERNELS} == set(FAMILIES)
