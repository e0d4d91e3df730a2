"""The fast path of evaluation against the plain one: decoder, masks, scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hwnas.data.labeled import LabeledImage
from hwnas.data.prompts import prompts_of
from hwnas.data.scores import boundary_iou, iou_of_masks
from hwnas.data.transforms import postprocess, preprocess
from hwnas.supernet import input_cache, prompt_decoder
from hwnas.supernet.decoder import decode
from hwnas.supernet.evaluation import Evaluator, evaluate_image, evaluate_images
from hwnas.supernet.mask_windows import windowed_masks
from hwnas.supernet.prompt_decoder import PromptDecoder
from hwnas.supernet.prompting import EmbeddedPrompts, dense_prompts, embed_boxes, embed_points
from hwnas.supernet.sam_model import build_sam
from hwnas.workload.sam_geometry import SamGeometry

TINY = SamGeometry(
    "tiny", 32, 1, 2, (0,), 0, (64, 128), heads_options=(1, 2), mlp_ratio=2, stages=1
)


@pytest.fixture(scope="module", params=[False, True], ids=["corners", "drawn"])
def sam(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    built = build_sam(replace(TINY, drawn_boxes=request.param))
    for name, parameter in built.mask_decoder.named_parameters():
        if "norm" in name or "upscaling.1" in name:  # random gains would make the map flat
            torch.nn.init.constant_(parameter, float(name.endswith("weight")))
        else:
            torch.nn.init.normal_(parameter, std=0.1)
    torch.nn.init.zeros_(built.mask_decoder.output_upscaling[3].bias)
    return built


def textured(images: torch.Tensor) -> torch.Tensor:
    """Embeddings (B, 256, g, g) that differ from place to place, so that masks have holes."""
    cells = torch.nn.functional.avg_pool2d(images, 16)
    rng = torch.Generator().manual_seed(0)
    mixing = torch.randn(256, 3, generator=rng)
    return torch.einsum("bcyx,dc->bdyx", cells, mixing) * 3


@pytest.mark.parametrize("prompts", [1, 5, 40])
@pytest.mark.parametrize("tokens", [1, 2, 4])
def test_the_prompt_decoder_equals_the_plain_one(
    sam: Any, prompts: int, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_decoder, "_CHUNK_BYTES", 1 << 19)  # several chunks
    embedding, sparse = torch.randn(256, 8, 8), torch.randn(prompts, tokens, 256)
    boxes = torch.rand(prompts, 4) * 60
    boxes[prompts // 2 :] = torch.nan  # as points after boxes
    drawn = sam.geometry.drawn_boxes
    given = EmbeddedPrompts(sparse[None], boxes[None] if drawn else None)
    with torch.no_grad():
        dense = given.dense(sam, 8)
        expected = decode(sam, embedding[None], given.sparse, dense=dense)[0][0, :, 0]
    found = PromptDecoder(sam)(embedding, EmbeddedPrompts(sparse, boxes if drawn else None))
    assert found.shape == (prompts, 32, 32)
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (50, 200), (301, 97), (20, 13), (9, 400)])
def test_masks_in_windows_equal_whole_masks(size: tuple[int, int]) -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 32, 32, generator=rng) - 2
    logits[0] = -1
    logits[1] = 1
    logits[2] = -1
    logits[2, 31, 31] = 5  # in the padding, where the image is not square
    whole = (postprocess(logits, size) > 0).numpy()
    for mask, (found, window) in zip(whole, windowed_masks(logits, size), strict=True):
        full = np.zeros(size, bool)
        full[window] = found
        assert np.count_nonzero(full != mask) <= 1  # rounding of a logit that is zero


def picture(seed: int, height: int = 90, width: int = 120) -> LabeledImage:
    rng = np.random.default_rng(seed)
    ids = np.zeros((height, width), np.int32)
    for i in range(5):
        y, x = rng.integers(0, height - 30), rng.integers(0, width - 30)
        ids[y : y + rng.integers(5, 30), x : x + rng.integers(5, 30)] = i + 1
    pixels = rng.integers(0, 255, (height, width, 3)).astype(np.uint8)
    return LabeledImage(f"{seed}", pixels, ids)


def plain_scores(sam: Any, image: LabeledImage, resolution: int, prompt: str) -> Any:
    """Whole masks, one image at a time."""
    prompts = prompts_of(image.instances)
    scale = resolution / max(image.size)
    with torch.no_grad():
        embedding = textured(preprocess(image.image, resolution)[None])
        dense = None
        if prompt == "box":
            boxes = torch.from_numpy(prompts.boxes) * scale
            sparse = embed_boxes(sam, boxes, resolution)
            if sam.geometry.drawn_boxes:
                dense = dense_prompts(sam, boxes[None], resolution // 16)
        else:
            points = (torch.from_numpy(prompts.points)[:, None] + 0.5) * scale - 0.5
            sparse = embed_points(sam, points, torch.ones(points.shape[:2]), resolution)
        logits = decode(sam, embedding, sparse[None], dense=dense)[0][0, :, 0]
    masks = (postprocess(logits, image.size) > 0).numpy()
    truths = image.instances == prompts.ids[:, None, None]
    return iou_of_masks(masks, truths), boundary_iou(masks, truths)


@pytest.mark.parametrize("resolution", [64, 128])
def test_the_evaluator_equals_plain_evaluation(
    sam: Any, resolution: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_cache, "_PIXELS_CPU", 2 * resolution**2)  # two images a batch
    images = [picture(0), picture(1, 128, 128), picture(2, 150, 70)]
    evaluator = Evaluator.of(sam, images, prompts=("box", "point"), boundary=True)
    for _ in range(2):  # the second time from what was kept
        found = evaluator.score(textured, resolution)
        for kind in ("box", "point"):
            for image, scores in zip(images, found[kind], strict=True):
                iou, band = plain_scores(sam, image, resolution, kind)
                assert 0 < iou.mean() < 1
                assert scores.iou == pytest.approx(iou, abs=1e-3)
                assert scores.boundary_iou == pytest.approx(band, abs=2e-3)
    plain = evaluate_images(sam, images, resolution=resolution, prompt="box", embed=textured)
    assert [s.iou.tolist() for s in found["box"]] == [p.tolist() for p in plain]


def test_changed_weights_are_seen_after_forget(sam: Any) -> None:
    import copy

    other = copy.deepcopy(sam)
    evaluator = Evaluator.of(other, [picture(0)])
    before = evaluator.score(textured, 64)["box"][0].iou
    with torch.no_grad():
        for parameter in other.prompt_encoder.parameters():
            parameter.mul_(-2)
    evaluator.forget()
    after = evaluator.score(textured, 64)["box"][0].iou
    fresh = evaluate_image(other, picture(0), resolution=64, prompt="box", embed=textured)
    assert (after == fresh).all()
    assert (after != before).any()


def test_ignored_pixels_do_not_count(sam: Any) -> None:
    image = picture(0)
    labels = (image.instances > 0).astype(np.uint8)
    labels[image.instances == 0] = 255  # only objects count: a mask can miss, not overflow
    strict = LabeledImage("x", image.image, image.instances, labels=labels)
    options = {"resolution": 64, "prompt": "box", "embed": textured}
    plain, found = (evaluate_image(sam, x, **options) for x in (image, strict))  # type: ignore[arg-type]
    assert (found >= plain).all()
    assert (found > plain).any()


def test_an_image_without_objects_has_no_scores(sam: Any) -> None:
    empty = LabeledImage("e", np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.int32))
    first, second = evaluate_images(sam, [empty, picture(0)], resolution=64, prompt="box")
    assert len(first) == 0
    assert len(second) == len(prompts_of(picture(0).instances).ids)
