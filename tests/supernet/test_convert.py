"""DINOv2 layout to a SAM encoder: every step that can be exact is exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from hwnas.errors import CheckpointError
from hwnas.supernet.agreement import dinov2_features, measure_agreement, patch_cosines
from hwnas.supernet.checkpoint import save_weights
from hwnas.supernet.convert import (
    convert_encoder,
    fold_final_norm,
    load_converted,
    read_dinov2,
    resize_patch_embedding,
)
from hwnas.supernet.sam_model import build_sam, encode_tokens
from hwnas.supernet.supernet_file import hash_weights
from hwnas.supernet.training.pretraining.features import fused_embedding
from hwnas.workload.sam_geometry import GEOMETRIES

SMALL = replace(
    GEOMETRIES["sam-vit-s"], dim=32, depth=2, heads=2, global_blocks=(0, 1), resolutions=(64,)
)


def backbone(
    dim: int = 32, depth: int = 2, patch: int = 14, side: int = 4
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.2

    weights = {
        "cls_token": random(1, 1, dim),
        "pos_embed": random(1, 1 + side * side, dim),
        "patch_embed.proj.weight": random(dim, 3, patch, patch),
        "patch_embed.proj.bias": random(dim),
        "norm.weight": 1 + random(dim),
        "norm.bias": random(dim),
    }
    for i in range(depth):
        shapes = {
            "norm1.weight": (dim,),
            "norm1.bias": (dim,),
            "attn.qkv.weight": (3 * dim, dim),
            "attn.qkv.bias": (3 * dim,),
            "attn.proj.weight": (dim, dim),
            "attn.proj.bias": (dim,),
            "ls1.gamma": (dim,),
            "norm2.weight": (dim,),
            "norm2.bias": (dim,),
            "mlp.fc1.weight": (4 * dim, dim),
            "mlp.fc1.bias": (4 * dim,),
            "mlp.fc2.weight": (dim, 4 * dim),
            "mlp.fc2.bias": (dim,),
            "ls2.gamma": (dim,),
        }
        weights.update({f"blocks.{i}.{k}": random(*shape) for k, shape in shapes.items()})
    return weights


def test_the_encoder_is_exact_where_nothing_has_to_change() -> None:
    """Patch 16 and the same grid; a class token that no patch attends to."""
    weights = backbone(patch=16)
    weights["pos_embed"][:, 0] = 0
    weights["cls_token"].zero_()
    # Block 0: no biases, so the class token has a value of zero; no queries and keys, so attention
    # is uniform and the class token only dilutes it, by 16/17. Block 1: no attention.
    for name in ("norm1", "attn.qkv", "attn.proj"):
        weights[f"blocks.0.{name}.bias"].zero_()
    weights["blocks.0.attn.qkv.weight"][: 2 * 32] = 0
    weights["blocks.1.attn.proj.weight"].zero_()
    sam = build_sam(SMALL)
    converted = convert_encoder(weights, SMALL)
    converted["blocks.0.attn.proj.weight"] *= 16 / 17
    load_converted(sam, converted, source="test")
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        tokens = encode_tokens(sam, images)
    gain, bias = weights["norm.weight"], weights["norm.bias"]
    normed = functional.layer_norm(tokens, (32,), gain, bias, 1e-6)
    original = dinov2_features(weights, images, heads=2)
    assert torch.allclose(normed, original, atol=1e-4)


def test_the_larger_patch_embedding_sees_a_resized_patch_as_the_old_one_saw_it() -> None:
    kernel = torch.randn(8, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    patch = torch.randn(5, 3, 14, 14, generator=torch.Generator().manual_seed(1))
    larger = functional.interpolate(patch, (16, 16), mode="bilinear", align_corners=False)
    resized = resize_patch_embedding(kernel, 16)
    assert resized.shape == (8, 3, 16, 16)
    expected, found = functional.conv2d(patch, kernel), functional.conv2d(larger, resized)
    assert torch.allclose(found, expected, atol=1e-3)
    assert resize_patch_embedding(kernel, 14) is kernel


def test_folding_the_final_norm_changes_nothing_after_the_neck() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 3, 3, 32, generator=generator) * 3 + 1
    gain = 1 + 0.3 * torch.randn(32, generator=generator)
    neck = build_sam(SMALL).image_encoder.neck
    with torch.no_grad():
        normed = functional.layer_norm(tokens, (32,), gain, None, 1e-6)
        expected = neck(normed.permute(0, 3, 1, 2))
        neck[0].weight.copy_(fold_final_norm(neck[0].weight, gain))
        found = neck(tokens.permute(0, 3, 1, 2))
    assert torch.allclose(found, expected, atol=1e-4)


def test_the_fused_forward_equals_the_stock_blocks() -> None:
    sam = build_sam(SMALL)
    load_converted(sam, convert_encoder(backbone(), SMALL), source="test")
    embed = fused_embedding(sam)
    assert embed is not None
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(embed(images), sam.image_encoder(images), atol=1e-4)
        sam.image_encoder.blocks[1].attn.rel_pos_h += 0.1
    assert fused_embedding(sam) is None


def test_agreement_is_high_for_smooth_images_and_one_per_patch() -> None:
    weights = backbone(side=4)
    sam = build_sam(SMALL)
    load_converted(sam, convert_encoder(weights, SMALL), source="test")
    image = functional.interpolate(
        torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)),
        (64, 64),
        mode="bicubic",
    )[0]
    cosines = patch_cosines(weights, sam, [image, image])
    assert cosines.shape == (32,)
    assert cosines.mean() > 0.8
    summary = measure_agreement(weights, sam, [image, image])
    assert (summary.images, summary.patches) == (2, 32)
    assert summary.p1 <= summary.p5 <= summary.median <= 1.0001


def test_missing_keys_and_wrong_sizes_are_named(tmp_path: Path) -> None:
    weights = backbone()
    del weights["blocks.1.ls2.gamma"], weights["cls_token"]
    save_file(weights, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError) as caught:
        read_dinov2(tmp_path / "x.safetensors")
    text = str(caught.value)
    assert "2 keys are missing" in text
    assert "blocks.1.ls2.gamma" in text
    with pytest.raises(CheckpointError, match=r"\(32, 2, 128\), sam-vit-s needs \(384, 12, 1536\)"):
        convert_encoder(backbone(), GEOMETRIES["sam-vit-s"])


def test_a_backbone_in_float32_and_its_float16_form_give_one_hash(tmp_path: Path) -> None:
    """Official weights are published in float32, other forms hold them in float16."""
    weights = backbone()
    halves = {key: value.half() for key, value in weights.items()}
    assert any(not torch.equal(halves[key].float(), value) for key, value in weights.items())
    save_file(halves, tmp_path / "half.safetensors")
    save_weights(tmp_path / "half.safetensors.gz", halves)
    torch.save(weights, tmp_path / "full.pth")
    names = ("half.safetensors", "half.safetensors.gz", "full.pth")
    hashes = {hash_weights(convert_encoder(read_dinov2(tmp_path / n), SMALL)) for n in names}
    assert len(hashes) == 1
    found = read_dinov2(tmp_path / "half.safetensors")
    assert all(torch.equal(found[key], value.float()) for key, value in halves.items())


def test_what_float16_cannot_hold_is_not_rounded(tmp_path: Path) -> None:
    weights = backbone()
    weights["cls_token"] += 1e5
    torch.save(weights, tmp_path / "full.pth")
    assert torch.equal(read_dinov2(tmp_path / "full.pth")["cls_token"], weights["cls_token"])


def test_an_onnx_file_of_the_layout_gives_the_same_weights(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is an optional dependency")
    from onnx import helper, numpy_helper

    weights = backbone()
    nodes, initializers = [], []
    for key, value in weights.items():
        array = value.numpy()
        if key.endswith(".weight") and value.ndim == 2:  # as exporters write a linear layer
            name = f"onnx::MatMul_{len(nodes)}"
            initializers.append(numpy_helper.from_array(np.ascontiguousarray(array.T), name))
            bias = "model." + key.removesuffix("weight") + "bias"
            nodes.append(helper.make_node("MatMul", ["x", name], [name + ".out"]))
            nodes.append(helper.make_node("Add", [bias, name + ".out"], [name + ".sum"]))
        else:
            initializers.append(numpy_helper.from_array(array, "model." + key))
    graph = helper.make_graph(nodes, "backbone", [], [], initializers)
    onnx.save(helper.make_model(graph), tmp_path / "backbone.onnx")
    found = read_dinov2(tmp_path / "backbone.onnx")
    assert all(torch.equal(found[key], value.half().float()) for key, value in weights.items())

    (tmp_path / "broken.onnx").write_bytes(b"\xff" * 40)
    with pytest.raises(CheckpointError, match="cannot be read as ONNX"):
        read_dinov2(tmp_path / "broken.onnx")
