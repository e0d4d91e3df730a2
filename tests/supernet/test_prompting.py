"""Prompt tokens against the stock prompt encoder, and masks end to end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hwnas.data.folder import LabeledImage
from hwnas.errors import DataError
from hwnas.supernet.evaluation import evaluate_image, evaluate_images
from hwnas.supernet.prompting import (
    dense_positions,
    dense_prompts,
    draw_boxes,
    embed_boxes,
    embed_points,
    embed_prompts,
)
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


def test_a_drawn_box_covers_its_last_pixel_and_parts_of_cells() -> None:
    boxes = torch.tensor([[4.0, 8.0, 11.0, 9.0], [-5.0, 0.0, 1.0, 100.0]])
    drawn = draw_boxes(boxes, 8, 4.0)
    expected = -torch.ones(2, 8, 8)
    expected[0, 2, 1:3] = 0.0  # two of four rows
    expected[1, :, 0] = 0.0  # two of four columns
    assert torch.equal(drawn, expected)


def test_dense_prompts_equal_the_stock_encoder_given_the_drawing() -> None:
    sam = build_sam(TINY)
    boxes = torch.rand(2, 3, 4) * 40
    boxes[..., 2:] += 50
    boxes[0, 1] = torch.nan
    found = dense_prompts(sam, boxes, 8)
    for b, p in ((0, 0), (0, 2), (1, 1)):
        drawing = draw_boxes(boxes[b, p], 32, 4.0)[None, None]
        _, expected = sam.prompt_encoder(None, None, drawing)
        assert torch.allclose(found[b, p], expected[0], atol=1e-5)
    _, absent = sam.prompt_encoder(None, boxes[0, :1], None)
    assert torch.equal(found[0, 1], absent[0])


def test_only_boxes_of_a_model_that_draws_them_are_drawn() -> None:
    sam = build_sam(TINY)
    boxes, points = torch.rand(1, 2, 4) * 60, torch.rand(1, 3, 1, 2) * 60
    prompts = embed_prompts(sam, boxes, points, 128)
    assert prompts.boxes is not None
    assert torch.equal(prompts.boxes[:, :2], boxes)
    assert bool(prompts.boxes[:, 2:].isnan().all())
    dense = prompts.dense(sam, 8)
    assert dense is not None
    absent = sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    assert torch.equal(dense[0, 2:], absent.expand(3, -1, 8, 8))
    plain = embed_prompts(build_sam(replace(TINY, drawn_boxes=False)), boxes, points, 128)
    assert plain.boxes is None
    assert plain.dense(sam, 8) is None


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
