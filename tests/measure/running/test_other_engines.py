"""ONNX Runtime and PyTorch run what they say they run."""

import numpy as np
import pytest
import torch

from hwnas.device import find
from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels import FAMILIES
from hwnas.measure.kernels.isa import Isa
from hwnas.measure.lowering import Step
from hwnas.measure.runners.bench import Unsupported
from hwnas.measure.runners.seam import Network, from_json, to_json
from hwnas.measure.runners.torch_bench import TorchBench
from hwnas.measure.runners.torch_kernels import torch_kernel

DEVICE = find("host").to_dict()
SHAPES = {
    "linear": (8, 16, 24),
    "conv": (4, 6, 3, 2, 1, 4),
    "conv_transpose": (4, 6, 2, 2, 1, 4),
    "dwconv": (4, 4, 3, 1, 4, 5),
    "attention": (2, 2, 3, 4),
    "cross_attention": (2, 3, 5, 4),
    "matmul": (2, 3, 4, 5),
    "norm": (4, 8),
    "softmax": (4, 8),
    "add": (10,),
    "gelu": (10,),
    "relu": (10,),
    "copy": (10,),
    "quantize": (10,),
    "window": (5, 3, 2),
    "unwindow": (5, 3, 2),
    "pool": (6, 4, 2),
    "resize": (4, 3, 8),
    "fourier": (5, 4),
}


@pytest.fixture(scope="module")
def torch_bench():
    threads = torch.get_num_threads()
    yield TorchBench(DEVICE, "cpu")
    torch.set_grad_enabled(True)
    torch.set_num_threads(threads)


def test_every_family_of_kernels_has_a_shape_here():
    assert set(SHAPES) == set(FAMILIES)


@pytest.mark.parametrize("kind", SHAPES)
def test_torch_takes_and_gives_as_many_scalars_as_our_kernels(kind, isa):
    kernel = Kernel(kind, SHAPES[kind], "fp32", 32, 32)
    ours = FAMILIES[kind].problem(kernel, isa, np.random.default_rng(0))
    theirs = torch_kernel(kernel, torch.float32)
    assert theirs.inputs == tuple(array.size for array in ours.inputs)
    assert theirs.output == ours.output
    inputs = [torch.randn(size) for size in theirs.inputs]
    constants = [torch.randn(c.elems) for c in theirs.constants]
    assert theirs.run(inputs, constants).numel() == ours.output


@pytest.mark.parametrize(
    "kind",
    ["norm", "softmax", "add", "gelu", "relu", "copy", "window", "unwindow", "pool", "resize",
     "fourier", "matmul", "cross_attention"],
)  # fmt: skip
def test_torch_computes_what_our_kernels_compute(kind, isa):
    kernel = Kernel(kind, SHAPES[kind], "fp32", 32, 32)
    ours = FAMILIES[kind].problem(kernel, isa, np.random.default_rng(0))
    theirs = torch_kernel(kernel, torch.float32)
    inputs, constants = (
        [torch.from_numpy(array.ravel()) for array in arrays]
        for arrays in (ours.inputs, ours.constants)
    )
    found = theirs.run(inputs, constants).reshape(-1).numpy()
    np.testing.assert_allclose(found, ours.expected(), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def isa() -> Isa:
    pytest.importorskip("tvm")
    from hwnas.measure.builder import target_of
    from hwnas.measure.kernels import isa_of

    return isa_of(target_of(find("host")))


def test_torch_multiplies_integers_where_it_can_and_says_so():
    integer = torch_kernel(Kernel("linear", (8, 16, 24), "int8", 4, 8), torch.float32)
    assert integer.ran == "int8 by torch._int_mm"
    assert [c.dtype for c in integer.constants] == ["int8", "float32", "float32"]
    x, weight = torch.randn(128), torch.randint(-8, 8, (384,), dtype=torch.int8)
    scale, bias = torch.rand(24), torch.randn(24)
    codes = (x.view(8, 16) * 40).round().clamp(-128, 127)
    expected = codes @ weight.view(24, 16).float().T * scale + bias
    torch.testing.assert_close(integer.run([x], [weight, scale, bias]), expected)
    odd = torch_kernel(Kernel("linear", (8, 15, 24), "int8", 8, 8), torch.float16)
    assert odd.ran == "float16 linear"


def test_torch_refuses_what_it_has_not():
    with pytest.raises(Unsupported, match="no kernels of kind 'warp'"):
        torch_kernel(Kernel("warp", (4,), "fp32", 32, 32), torch.float32)
    with pytest.raises(Unsupported, match="does not multiply fp8"):
        torch_kernel(Kernel("linear", (4, 4, 4), "fp8", 8, 8), torch.float32)


def test_torch_times_kernels_and_networks(torch_bench):
    kernel = Kernel("linear", (64, 64, 64), "fp32", 32, 32)
    with torch_bench.ready(kernel) as ready:
        assert ready.timed()[0].wall_ms > 0
        assert ready.reference()[0].wall_ms > 0
        assert ready.details["ran"] == ["float32 linear"]
    steps = (Step(kernel, ("a",), "g", False), Step(kernel, ("b",), "g", True))
    with torch_bench.ready(Network("arch", steps, 3)) as ready:
        assert ready.timed()[0].times == 1
        assert ready.details["calls"] == 4


def test_a_subject_crosses_the_pipe_unchanged():
    kernel = Kernel("linear", (64, 64, 64), "int8", 4, 8)
    network = Network("arch-2prompts", (Step(kernel, ("a", "b"), "g", True),), 2)
    for subject in (kernel, network):
        assert from_json(to_json(subject)) == subject
    assert network.kernels() == (kernel, kernel)


@pytest.fixture(scope="module")
def onnx_bench():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from hwnas.measure.runners.onnx_bench import OnnxBench

    return OnnxBench(DEVICE)


@pytest.mark.parametrize(
    ("kind", "dtype", "operator"),
    [
        ("linear", "fp32", "MatMul"),
        ("linear", "int8", "MatMulIntegerToFloat"),
        ("conv", "int8", "QLinearConv"),
        ("norm", "fp32", "LayerNormalization"),
        ("softmax", "fp32", "Softmax"),
        ("add", "fp32", "Add"),
        ("gelu", "fp32", "Gelu"),
        ("matmul", "fp32", "MatMul"),
        ("dwconv", "fp32", "Conv"),
        ("conv_transpose", "fp32", "ConvTranspose"),
        ("attention", "fp32", "FusedMatMul"),
        ("attention", "int8", "MatMulIntegerToFloat x2"),
        ("cross_attention", "fp32", "Softmax"),
        ("cross_attention", "int8", "MatMulIntegerToFloat x2"),
    ],
)
def test_onnxruntime_names_the_operators_that_it_really_runs(onnx_bench, kind, dtype, operator):
    bits = 8 if dtype == "int8" else 32
    kernel = Kernel(kind, SHAPES[kind], dtype, bits, bits)
    with onnx_bench.ready(kernel) as ready:
        assert ready.timed()[0].wall_ms > 0
        assert any(op.startswith(operator) for op in ready.details["operators"])


def test_onnxruntime_attends_as_our_kernels_do():
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from hwnas.measure.kernels.attention import reference
    from hwnas.measure.runners.onnx_kernels import onnx_kernel

    windows, heads, side, dim = shape = SHAPES["attention"]
    written = onnx_kernel(Kernel("attention", shape, "fp32", 32, 32), 1).serialized()
    qkv = np.random.default_rng(1).standard_normal((windows, side**2, 3, heads, dim), np.float32)
    (found,) = onnxruntime.InferenceSession(written).run(None, {"x0": qkv})
    held = (onnx.numpy_helper.to_array(c) for c in onnx.load_from_string(written).graph.initializer)
    # (row, channel, key): by rising distance, the first row sees one half and the last the other
    tables = [
        np.concatenate((c[0].T[::-1], c[-1].T[::-1][1:]))
        for c in held
        if c.shape == (side, dim, side)
    ]
    assert len(tables) == 2
    q, k, v = np.moveaxis(qkv, (2, 3), (0, 2))
    expected = reference((q, k, v), tables, side, None).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_onnxruntime_refuses_networks_and_what_only_moves_data(onnx_bench):
    for subject in (Network("arch", ()), Kernel("window", (5, 3, 2), "fp32", 32, 32)):
        with pytest.raises(Unsupported), onnx_bench.ready(subject):
            pass
