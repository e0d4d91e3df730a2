"""The ONNX encoder of a subnet: its codes are torch's, and its products are integer ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from hwnas.errors import ConfigError
from hwnas.export.layer_agreement import compare_layers, first_parting
from hwnas.export.layer_codes import coded
from hwnas.export.onnx_encoder import encoder_model
from hwnas.export.onnx_layers import GraphStyle
from hwnas.quant.linear import ActivationGrid, FakeLinear
from tests.export.exported_models import (
    float_plan,
    image_of,
    integer_plan,
    relative,
    run_onnx,
    tiny_supernet,
)

STYLES: tuple[GraphStyle, ...] = ("onnxruntime", "tensorrt")


@pytest.mark.parametrize("style", STYLES)
def test_full_precision_equals_torch_up_to_rounding(style: GraphStyle) -> None:
    subnet = tiny_supernet().subnet(float_plan())
    image = image_of(128)
    found = run_onnx(encoder_model(subnet, style=style), {"image": image.numpy()})[0]
    assert relative(found, subnet(image).numpy()) < 1e-5


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("changes", [{}, {"pool_stage": 1}, {"dim": 32}], ids=["", "pool", "dim"])
def test_codes_of_every_layer_are_torchs(style: GraphStyle, changes: dict[str, int]) -> None:
    pytest.importorskip("onnxruntime")
    subnet = tiny_supernet().subnet(integer_plan(**changes))
    layers = compare_layers(subnet, encoder_model(subnet, style=style), image_of(128))
    names = [layer.name for layer in layers]
    assert names[0] == "patch_embed"
    assert names[-1] == "embedding"
    assert [n for n in names if n.startswith("blocks/2")] == [
        "blocks/2/qkv", "blocks/2/proj", "blocks/2/lin1", "blocks/2/lin2", "blocks/2",
    ]  # fmt: skip
    assert first_parting(layers) is None, "\n".join(map(str, layers))
    # each block goes on from the codes of the runtime: no flipped code reaches its output
    assert max(layer.error for layer in layers if layer.name.startswith("blocks/")) < 2e-5
    codes = sum(layer.codes for layer in layers)
    assert sum(layer.codes * layer.differing for layer in layers) / codes < 1e-3


@pytest.mark.parametrize("style", STYLES)
def test_encoders_without_relative_positions(style: GraphStyle) -> None:
    """As `sam-vit-s`, whose tables are zero: nothing is added to the scores."""
    pytest.importorskip("onnxruntime")
    net = tiny_supernet()
    with torch.no_grad():
        for block in net.sam.image_encoder.blocks:
            block.attn.rel_pos_h.zero_()
            block.attn.rel_pos_w.zero_()
    subnet = net.subnet(integer_plan())
    model = encoder_model(subnet, style=style)
    assert not [node for node in model.graph.node if "/rows/" in node.name]
    layers = compare_layers(subnet, model, image_of(128))
    assert first_parting(layers) is None, "\n".join(map(str, layers))


def test_an_error_in_one_layer_is_found_there() -> None:
    pytest.importorskip("onnxruntime")
    subnet = tiny_supernet().subnet(integer_plan())
    model = encoder_model(subnet)
    for tensor in model.graph.initializer:
        if tensor.name == "blocks/1/lin1/weight/scale":
            wrong = numpy_helper.to_array(tensor) * 1.5
            tensor.CopyFrom(numpy_helper.from_array(wrong.astype(np.float32), tensor.name))
    parting = first_parting(compare_layers(subnet, model, image_of(128)))
    assert parting is not None
    assert parting.name == "blocks/1/lin2"
    assert "input codes differ" in str(parting)


@pytest.mark.parametrize("style", STYLES)
def test_every_product_of_an_integer_plan_is_fused(style: GraphStyle, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from hwnas.export.onnx_form import fused_products

    subnet = tiny_supernet().subnet(integer_plan())
    path = tmp_path / "encoder.onnx"
    path.write_bytes(encoder_model(subnet, style=style).SerializeToString())
    # patch, neck twice; 4 layers of 4 blocks; scores, values, rows, columns of 3 with integers
    found = fused_products(path)
    assert found.pop("MatMulIntegerToFloat") == 3 + 4 * 4 + 4 * 3
    # the attention in floating point of the last block
    assert sum(found.values()) == 4


def test_weights_of_four_bits_and_fewer_are_stored_in_half() -> None:
    subnet = tiny_supernet().subnet(integer_plan())
    image = image_of(128)
    small, wide = (encoder_model(subnet, storage=s) for s in ("int4", "int8"))
    packed = [t for t in small.graph.initializer if t.data_type == onnx.TensorProto.INT4]
    assert {t.name.removesuffix("/weight/packed") for t in packed} == {
        "blocks/1/qkv", "blocks/1/lin1", "blocks/1/lin2", "blocks/2/qkv", "blocks/2/proj",
        "blocks/3/qkv", "blocks/3/lin1",
    }  # fmt: skip
    feed = {"image": image.numpy()}
    assert np.array_equal(run_onnx(small, feed)[0], run_onnx(wide, feed)[0])
    assert small.ByteSize() < wide.ByteSize()


def test_tensorrt_style_keeps_its_rules() -> None:
    """Symmetric int8, zero points of 0, a DequantizeLinear right after each QuantizeLinear."""
    model = encoder_model(tiny_supernet().subnet(integer_plan()), style="tensorrt")
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    readers: dict[str, list[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    quantizers = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert len(quantizers) > 30
    for node in quantizers:
        zero = constants[node.input[2]]
        assert zero.dtype == np.int8
        assert zero == 0
        assert set(readers[node.output[0]]) == {"DequantizeLinear"}


def test_a_layer_without_codes_is_refused() -> None:
    layer = FakeLinear(torch.ones(2, 3), torch.zeros(2), ActivationGrid(0.1, 0.0, 255))
    with pytest.raises(ConfigError, match=r"blocks/0/qkv: a fake-quantized layer .* no integer"):
        coded(layer, "blocks/0/qkv")
