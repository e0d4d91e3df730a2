"""Our forward passes against the stock modules."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hwnas.supernet.decoder import decode
from hwnas.supernet.sam_model import build_sam, encode, position_table
from hwnas.supernet.torchvision_shim import ensure_torchvision
from hwnas.workload.sam_geometry import GEOMETRIES

TINY = replace(
    GEOMETRIES["sam-vit-t"],
    dim=64,
    depth=4,
    heads=2,
    global_blocks=(1, 3),
    window=4,
    resolutions=(64, 128),
)


def random_sam(geometry: object = TINY) -> object:
    torch.manual_seed(0)
    sam = build_sam(geometry)  # type: ignore[arg-type]
    for parameter in sam.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return sam


def test_torchvision_imports_after_the_shim() -> None:
    assert ensure_torchvision() in {"already", "native", "schemas-only"}
    import torchvision

    assert torchvision.__version__


@pytest.mark.parametrize("name", ["sam-vit-t", "sam-vit-s"])
def test_every_parameter_has_its_stock_key(name: str) -> None:
    with torch.device("meta"):
        state = build_sam(GEOMETRIES[name]).state_dict()
    geometry = GEOMETRIES[name]
    assert state["image_encoder.pos_embed"].shape == (1, 32, 32, geometry.dim)
    assert state["image_encoder.blocks.0.attn.rel_pos_h"].shape[0] == (
        2 * (geometry.window_of(0) or 32) - 1
    )
    assert not any("cls_token" in key for key in state)
    assert {key.split(".")[0] for key in state} == {
        "image_encoder",
        "prompt_encoder",
        "mask_decoder",
    }


def test_encode_equals_the_stock_encoder_at_its_own_size() -> None:
    sam = random_sam()
    images = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        assert torch.equal(encode(sam, images), sam.image_encoder(images))  # type: ignore[attr-defined]


def test_encode_at_another_size_equals_a_stock_encoder_of_that_size() -> None:
    sam = random_sam()
    other = build_sam(replace(TINY, resolutions=(64,)))
    weights = sam.state_dict()  # type: ignore[attr-defined]
    weights["image_encoder.pos_embed"] = position_table(weights["image_encoder.pos_embed"], 4)
    for i in TINY.global_blocks:
        for axis in ("h", "w"):
            key = f"image_encoder.blocks.{i}.attn.rel_pos_{axis}"
            resized = torch.nn.functional.interpolate(weights[key].T[None], 7, mode="linear")
            weights[key] = resized[0].T
    other.load_state_dict(weights)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(encode(sam, images), other.image_encoder(images), atol=1e-5)


@pytest.mark.parametrize("multimask", [False, True])
def test_the_batched_decoder_equals_the_stock_one_image_by_image(multimask: bool) -> None:
    sam = random_sam()
    embeddings = torch.randn(3, 256, 8, 8)
    sparse = torch.randn(3, 5, 2, 256)
    with torch.no_grad():
        masks, iou = decode(sam, embeddings, sparse, multimask=multimask)
        assert masks.shape == (3, 5, 3 if multimask else 1, 32, 32)
        for b in range(3):
            dense = sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)  # type: ignore[attr-defined]
            expected = sam.mask_decoder(  # type: ignore[attr-defined]
                embeddings[b : b + 1],
                sam.prompt_encoder.get_dense_pe(),  # type: ignore[attr-defined]
                sparse[b],
                dense.expand(5, -1, 8, 8),
                multimask,
            )
            scale = expected[0].abs().max()
            assert torch.allclose(masks[b], expected[0], atol=1e-4 * float(scale))
            assert torch.allclose(iou[b], expected[1], atol=1e-4)
