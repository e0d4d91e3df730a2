"""One network in several runtimes: the same masks, and integers where they are claimed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.data.prompts import Prompts
from hwnas.errors import ConfigError
from hwnas.export import runtimes
from hwnas.export.run import coordinates, postprocess
from hwnas.export.runtimes import RUNTIMES, Runtime, chosen_runtimes, runnable
from hwnas.supernet.evaluation import PromptKind, predict_masks
from hwnas.workload.sam_plan import EncoderPlan
from tests.export.exported_models import float_plan, image_of, integer_plan, relative, tiny_supernet

GRAPHS: tuple[Runtime, ...] = ("onnxruntime", "openvino")


@pytest.mark.parametrize("runtime", ["torch", *GRAPHS])
@pytest.mark.parametrize("plan", [float_plan(), integer_plan()], ids=["float", "integer"])
def test_every_runtime_finds_the_same_masks(
    runtime: Runtime, plan: EncoderPlan, tmp_path: Path
) -> None:
    if runtime != "torch":
        pytest.importorskip(runtime)
    net = tiny_supernet()
    subnet = net.subnet(plan)
    image = image_of(128).numpy()
    expected = subnet(torch.from_numpy(image)).numpy()
    opened = runnable(runtime, subnet, net.sam, tmp_path, threads=1).segmenter
    assert opened.resolution == 128
    bound = 1e-5 if plan.float_bits == 32 else 0.05  # rounding moves a code to its neighbor
    assert relative(opened.embed_input(image), expected) < bound
    torch_form = runnable("torch", subnet, net.sam, tmp_path, threads=1).segmenter
    for prompt in (([[20, 20], [90, 70]], [2, 3]), ([[40, 60]], [1])):
        fed = coordinates(prompt, (128, 128), 128)
        logits = opened.logits(expected, *fed)[0]
        assert logits.shape == (1, 32, 32)
        assert relative(logits, torch_form.logits(expected, *fed)[0]) < 1e-4


def test_openvino_multiplies_integers(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    net = tiny_supernet()
    plan = EncoderPlan.uniform(net.geometry, resolution=128, w_bits=8, a_bits=8, attn_bits=8)
    runnable("openvino", net.subnet(plan), net.sam, tmp_path, threads=1)
    core = openvino.Core()
    if "INT8" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no int8 products in OpenVINO")
    compiled = core.compile_model(
        str(tmp_path / "encoder.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    kinds: Counter[str] = Counter()
    for node in compiled.get_runtime_model().get_ordered_ops():
        facts = node.get_rt_info()
        if facts["layerType"].astype(str) == "FullyConnected":
            kinds[facts["runtimePrecision"].astype(str)] += 1
    assert set(kinds) <= {"i8", "u8"}
    # four layers of each block, patch embedding, the two convolutions of the neck, and the tables
    # of relative positions
    assert kinds.total() >= 4 * net.geometry.depth + 3


def test_the_bytes_are_those_of_the_encoder(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    net = tiny_supernet()
    whole, narrow = net.subnet(float_plan()), net.subnet(integer_plan())
    in_torch = runnable("torch", whole, net.sam, tmp_path, threads=1).encoder_bytes
    in_file = runnable("onnxruntime", whole, net.sam, tmp_path, threads=1).encoder_bytes
    assert in_file == (tmp_path / "encoder.onnx").stat().st_size
    assert 0.8 * in_torch < in_file < 1.6 * in_torch
    assert runnable("onnxruntime", narrow, net.sam, tmp_path, threads=1).encoder_bytes < in_file / 2


def test_runtimes_are_chosen_among_the_installed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(name: str) -> str | None:
        return None if name == "openvino" else "1"

    monkeypatch.setattr(runtimes, "runtime_version", installed)
    assert chosen_runtimes(None) == ("torch", "onnxruntime", "tvm")
    assert chosen_runtimes(("tvm", "torch")) == ("torch", "tvm")
    with pytest.raises(ConfigError, match=r"openvino: not installed; pip install 'hwnas\[openvino"):
        chosen_runtimes(("torch", "openvino"))
    with pytest.raises(ConfigError, match=f"fast: expected some of {', '.join(RUNTIMES)}"):
        chosen_runtimes(("torch", "fast"))


def test_a_box_and_a_point_in_torch_are_those_of_the_supernet(tmp_path: Path) -> None:
    net = tiny_supernet()
    subnet = net.subnet(float_plan())
    opened = runnable("torch", subnet, net.sam, tmp_path, threads=1).segmenter
    embedding = subnet(image_of(128))
    box, point = [20.0, 24.0, 100.0, 90.0], [50.0, 60.0]
    prompts = Prompts(np.zeros(1, np.int32), np.array([box], np.float32),
                      np.array([point], np.float32))  # fmt: skip
    kinds: dict[PromptKind, tuple[object, list[int]]] = {
        "box": ([box[:2], box[2:]], [2, 3]), "point": ([point], [1]),
    }  # fmt: skip
    for kind, fed in kinds.items():
        expected = predict_masks(net.sam, embedding, (128, 128), prompts, prompt=kind).numpy()
        logits = opened.logits(embedding.numpy(), *coordinates(fed, (128, 128), 128))[0]
        assert ((postprocess(logits[0], (128, 128), 128) > 0) == expected[0]).mean() > 0.999
