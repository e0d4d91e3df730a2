"""The ONNX prompt encoder and mask decoder equal the supernet's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hwnas.errors import ConfigError
from hwnas.export.exact_codes import exact_codes
from hwnas.export.onnx_decoder import decoder_model
from hwnas.supernet.decoder import decode
from hwnas.supernet.packing import pack, unpack
from hwnas.supernet.prompt_decoder import PromptDecoder
from hwnas.supernet.prompting import EmbeddedPrompts, embed_boxes, embed_points, embed_prompts
from hwnas.supernet.semantic import semantic_head
from tests.export.exported_models import run_onnx
from tests.supernet.elastic_models import TINY, random_sam

GEOMETRY = replace(TINY, neck_dim=64)


def _sam(*, drawn: bool) -> Any:
    return random_sam(replace(GEOMETRY, drawn_boxes=drawn))


def _embedding() -> torch.Tensor:
    return torch.randn(1, 64, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("drawn", [False, True])
def test_boxes_and_points_equal_the_supernets_decoder(drawn: bool) -> None:
    sam = _sam(drawn=drawn)
    boxes = torch.tensor([[10.0, 20.0, 50.0, 70.0], [0.0, 0.0, 127.0, 127.0]])
    points = torch.tensor([[30.0, 40.0]])
    with torch.no_grad():
        embedded = embed_prompts(sam, boxes[None], points[None, :, None], 128)
        drawn_boxes = None if embedded.boxes is None else embedded.boxes[0]
        prompts = EmbeddedPrompts(embedded.sparse[0], drawn_boxes)
        expected = PromptDecoder(sam)(_embedding()[0], prompts).numpy()
    fed = np.concatenate([boxes.reshape(2, 2, 2).numpy(), [[[30, 40], [0, 0]]]])
    labels = np.array([[2, 3], [2, 3], [1, -1]])
    found, iou = run_onnx(
        decoder_model(sam, 128),
        {"embedding": _embedding().numpy(), "points": fed.astype(np.float32), "labels": labels},
    )
    assert found.shape == (3, 32, 32)
    assert iou.shape == (3,)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_predicted_iou_and_background_points_equal_the_stock_decoders() -> None:
    sam = _sam(drawn=False)
    points = torch.tensor([[30.0, 40.0], [80.0, 90.0]])
    labels = torch.tensor([1.0, 0.0])
    with torch.no_grad():
        sparse = embed_points(sam, points, labels, 128)
        masks, expected = decode(sam, _embedding(), sparse[None, None])
    fed = np.concatenate([points.numpy(), [[0, 0]]])[None].astype(np.float32)
    feed = {"embedding": _embedding().numpy(), "points": fed, "labels": np.array([[1, 0, -1]])}
    found, iou = run_onnx(decoder_model(sam, 128), feed)
    assert (
        abs(float(iou[0]) - float(expected[0, 0, 0])) < 1e-4 * abs(float(expected[0, 0, 0])) + 1e-6
    )
    assert np.abs(found[0] - masks[0, 0, 0].numpy()).max() < 1e-4 * float(masks.abs().max())


def test_a_box_is_two_corners() -> None:
    sam = _sam(drawn=False)
    box = torch.tensor([[10.0, 20.0, 50.0, 70.0]])
    with torch.no_grad():
        masks, _ = decode(sam, _embedding(), embed_boxes(sam, box, 128)[None])
    fed = box.reshape(1, 2, 2).numpy()
    feed = {"embedding": _embedding().numpy(), "points": fed, "labels": np.array([[2, 3]])}
    found = run_onnx(decoder_model(sam, 128), feed)[0]
    assert np.abs(found[0] - masks[0, 0, 0].numpy()).max() < 1e-4 * float(masks.abs().max())


def test_weights_that_are_codes_are_stored_as_codes() -> None:
    """As the shipped ones are; nothing changes but the bytes."""
    sam = _sam(drawn=True)
    feed = {"embedding": _embedding().numpy(), "labels": np.array([[2, 3]]),
            "points": np.array([[[10, 20], [50, 70]]], np.float32)}  # fmt: skip
    wide = decoder_model(sam, 128).ByteSize()
    state = {k: v for k, v in sam.state_dict().items() if k.startswith(("mask_", "prompt_"))}
    sam.load_state_dict(unpack(pack(state)), strict=False)
    model = decoder_model(sam, 128)
    assert model.ByteSize() < 0.4 * wide
    expected = PromptDecoder(sam)
    with torch.no_grad():
        box = torch.tensor([[10.0, 20.0, 50.0, 70.0]])
        logits = expected(_embedding()[0], EmbeddedPrompts(embed_boxes(sam, box, 128), box)).numpy()
    found = run_onnx(model, feed)[0]
    assert np.abs(found - logits).max() < 1e-4 * np.abs(logits).max()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_codes_are_found_in_any_layout_or_not_at_all(order: tuple[int, int]) -> None:
    weight = torch.randn(80, 96, generator=torch.Generator().manual_seed(1))
    assert exact_codes(weight.numpy()) is None
    rounded = unpack(pack({"w": weight}))["w"].numpy()
    split = rounded.transpose(order).reshape(-1, 8, rounded.shape[order[1]])
    for array in (rounded.transpose(order), split):
        codes, scale = exact_codes(np.ascontiguousarray(array))
        assert np.array_equal(codes.astype(np.float32) * scale, array)
        assert scale.size == 80


def test_a_semantic_head_is_refused() -> None:
    sam = _sam(drawn=False)
    semantic_head(sam, ["cell"], seed=0)
    with pytest.raises(ConfigError, match=r"classes cell without prompts"):
        decoder_model(sam, 128)
