"""Prompt tokens against the stock prompt encoder, and masks end to end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hwnas.data.folder import LabeledImage
from hwnas.errors import DataError
from hwnas.supernet.evaluation import evaluate_image, evaluate_images
from hwnas.supernet.prompting import dense_positions, embed_boxes, embed_points
from hwnas.supernet.sam_model import build_sam
from hwnas.workload.sam_geometry import GEOMETRIES

TINY = replace(
    GEOMETRIES["sam-vit-t"], dim=32, depth=1, heads=1, global_blocks=(0,), resolutions=(64, 128)
)


def test_boxes_equal_the_stock_encoder() -> None:
    sam = build_sam(TINY)
    boxes = torch.rand(2, 5, 4) * 128
    found = embed_boxes(sam, boxes, 128)
    for b in range(2):
        expected, _ = sam.prompt_encoder(None, boxes[b], None)
        assert torch.allclose(found[b], expected, atol=1e-6)


def test_points_equal_the_stock_encoder_with_its_padding() -> None:
    sam = build_sam(TINY)
    points, labels = torch.rand(4, 3, 2) * 128, torch.tensor([[1, 0, 1]]).repeat(4, 1)
    expected, _ = sam.prompt_encoder((points, labels), None, None)
    assert torch.allclose(embed_points(sam, points, labels, 128), expected, atol=1e-6)


def test_another_resolution_scales_the_positions() -> None:
    sam = build_sam(TINY)
    boxes = torch.rand(3, 4) * 60
    small, large = embed_boxes(sam, boxes, 64), embed_boxes(sam, boxes * 2 + 0.5, 128)
    assert torch.allclose(small, large, atol=1e-5)
    assert torch.equal(dense_positions(sam, 8), sam.prompt_encoder.get_dense_pe())


def labeled() -> LabeledImage:
    ids = np.zeros((48, 64), np.int32)
    for i in range(6):
        ids[4 + 7 * i : 8 + 7 * i, 5:20] = i + 1
    return LabeledImage("x", np.repeat((ids[..., None] > 0) * 200, 3, 2).astype(np.uint8), ids)


@pytest.mark.parametrize("prompt", ["box", "point"])
def test_evaluation_scores_every_object_or_a_seeded_draw(prompt: str) -> None:
    sam = build_sam(TINY)
    scores = evaluate_image(sam, labeled(), resolution=64, prompt=prompt)  # type: ignore[arg-type]
    assert scores.shape == (6,)
    assert ((scores >= 0) & (scores <= 1)).all()
    drawn = [
        evaluate_images(sam, [labeled()], resolution=64, prompt="box", max_instances=3, seed=4)[0]
        for _ in range(2)
    ]
    assert drawn[0].shape == (3,)
    assert (drawn[0] == drawn[1]).all()
    with pytest.raises(DataError, match="give a generator"):
        evaluate_image(sam, labeled(), resolution=64, prompt="box", max_instances=3)


def test_a_decoder_that_paints_everything_scores_the_share_of_the_object() -> None:
    sam = build_sam(TINY)
    with torch.no_grad():  # the mask is head . map: make both ones
        for parameter in sam.mask_decoder.parameters():
            parameter.zero_()
        sam.mask_decoder.output_upscaling[3].bias.fill_(1)
        sam.mask_decoder.output_hypernetworks_mlps[0].layers[-1].bias.fill_(1)
    image = labeled()
    scores = evaluate_image(sam, image, resolution=64, prompt="box")
    assert scores == pytest.approx([(4 * 15) / (48 * 64)] * 6)
