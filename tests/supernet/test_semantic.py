"""The semantic task: head, decoding, targets, losses, scores."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from hwnas.data.labeled import LabeledImage
from hwnas.data.views import draw_view
from hwnas.errors import DataError
from hwnas.supernet.decoder import decode_semantic
from hwnas.supernet.sam_model import build_sam, encode
from hwnas.supernet.semantic import (
    SemanticEvaluator,
    classes_of,
    predict_classes,
    semantic_head,
    semantic_targets,
)
from hwnas.supernet.training.losses import semantic_losses
from hwnas.workload.sam_geometry import SamGeometry

TINY = SamGeometry(
    "tiny", 32, 1, 2, (0,), 0, (64, 128), heads_options=(1, 2), mlp_ratio=2, stages=1
)
NAMES = ("disk", "bar", "ring", "star", "dot")


def fresh(names: tuple[str, ...] = NAMES, seed: int = 3) -> Any:
    torch.manual_seed(0)
    sam = build_sam(TINY)
    semantic_head(sam, names, seed)
    return sam


def test_the_head_is_new_and_the_rest_is_kept() -> None:
    torch.manual_seed(0)
    stock = build_sam(TINY).state_dict()
    state = torch.get_rng_state()
    sam = fresh()
    assert classes_of(sam) == NAMES
    assert classes_of(build_sam(TINY)) is None
    new = ("mask_tokens", "output_hypernetworks_mlps", "iou_prediction_head")
    for key, value in sam.state_dict().items():
        if not any(word in key for word in new):
            assert torch.equal(value, stock[key]), key
    assert sam.mask_decoder.mask_tokens.weight.shape == (6, 256)
    assert len(sam.mask_decoder.output_hypernetworks_mlps) == 6
    again = fresh().mask_decoder.mask_tokens.weight
    assert torch.equal(again, sam.mask_decoder.mask_tokens.weight)
    torch.manual_seed(0)
    build_sam(TINY)
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is left alone
    with pytest.raises(DataError, match="0 classes"):
        semantic_head(sam, (), 0)


def test_all_masks_of_the_stock_decoder_come_back() -> None:
    sam = fresh()
    embeddings = torch.randn(2, 256, 8, 8)
    with torch.no_grad():
        found = decode_semantic(sam, embeddings)
        assert found.shape == (2, 6, 32, 32)
        dense = sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(1, -1, 8, 8)
        for b in range(2):
            expected, _ = sam.mask_decoder.predict_masks(
                embeddings[b : b + 1],
                sam.prompt_encoder.get_dense_pe(),
                torch.zeros(1, 0, 256),
                dense,
            )
            assert torch.allclose(found[b], expected[0], atol=1e-4 * float(expected.abs().max()))


def shapes(seed: int, height: int = 70, width: int = 100) -> LabeledImage:
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.uint8)
    for label in range(1, 6):
        y, x = rng.integers(0, height - 20), rng.integers(0, width - 20)
        labels[y : y + 15, x : x + 15] = label
    labels[:4] = 255
    ids = np.where(labels == 255, 0, labels).astype(np.int32)
    pixels = np.repeat((labels * 40)[..., None], 3, 2).astype(np.uint8)
    return LabeledImage(f"{seed}", pixels, ids, labels=labels, classes=NAMES)


def test_targets_are_the_labels_at_the_decoders_size() -> None:
    view = draw_view(shapes(0), 128, np.random.default_rng(0), crop=0, recolor=False)
    targets = semantic_targets([view, view], 32)
    assert targets.shape == (2, 32, 32)
    assert targets.dtype == torch.int64
    assert targets[0, 5, 9] == view.semantic[5 * 4 + 2, 9 * 4 + 2]
    assert (targets[:, view.height // 4 + 1 :] == 255).all()


def test_losses_equal_their_formula_and_ignore_ignored_pixels() -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, generator=rng)
    labels = torch.randint(0, 3, (2, 8, 8), generator=rng)
    labels[:, :2] = 255
    losses = semantic_losses(logits, labels)
    chance = logits.softmax(1)
    entropy, both, total = 0.0, torch.zeros(3), torch.zeros(3)
    for b, y, x in torch.nonzero(labels != 255).tolist():
        entropy -= float(chance[b, labels[b, y, x], y, x].log())
        both[labels[b, y, x]] += chance[b, labels[b, y, x], y, x]
        total += chance[b, :, y, x]
        total[labels[b, y, x]] += 1
    count = int((labels != 255).sum())
    dice = float((1 - (2 * both + 1) / (total + 1)).mean())
    assert float(losses["entropy"]) == pytest.approx(entropy / count, rel=1e-5)
    assert float(losses["dice"]) == pytest.approx(dice, rel=1e-5)
    assert float(losses["loss"]) == pytest.approx(0.2 * entropy / count + 0.8 * dice, rel=1e-5)
    changed = logits.clone()
    changed[:, :, :2] += torch.randn(2, 3, 2, 8, generator=rng)
    assert torch.equal(semantic_losses(changed, labels)["loss"], losses["loss"])
    right = torch.nn.functional.one_hot(labels.where(labels < 255, torch.tensor(0)), 3)
    perfect = semantic_losses(right.movedim(-1, 1) * 50.0, labels)
    assert float(perfect["loss"]) < 1e-4


def test_a_head_learns_shapes_and_the_score_sees_it() -> None:
    torch.manual_seed(0)
    sam, images = fresh(("disk",)), [shapes(s, 64, 64) for s in range(2)]
    images = [
        LabeledImage(i.name, i.image, i.instances, labels=(i.instances > 0).astype(np.uint8),
                     classes=("disk",)) for i in images
    ]  # fmt: skip
    evaluator = SemanticEvaluator(sam, images)
    before = evaluator.score(partial(encode, sam), 64)
    views = [draw_view(i, 64, np.random.default_rng(1), crop=0, recolor=False) for i in images]
    from hwnas.supernet.training.batches import images_of

    inputs, targets = images_of(views), semantic_targets(views, 16)
    optimizer = torch.optim.Adam(sam.parameters(), lr=2e-3)
    for _ in range(8):
        loss = semantic_losses(decode_semantic(sam, encode(sam, inputs)), targets)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = evaluator.score(partial(encode, sam), 64)
    assert after.miou > before.miou
    assert set(after.classes) == {"disk"}


def test_predictions_have_the_images_size_and_other_classes_are_refused() -> None:
    sam = fresh()
    with torch.no_grad():
        found = predict_classes(sam, torch.randn(1, 256, 4, 4), (33, 71))
    assert found.shape == (33, 71)
    assert found.max() <= 5
    SemanticEvaluator(sam, [shapes(0)])
    with pytest.raises(DataError, match="the data has the classes object, the model disk, bar"):
        SemanticEvaluator(sam, [LabeledImage("x", shapes(0).image, shapes(0).instances)])
    with pytest.raises(DataError, match="no semantic head"):
        SemanticEvaluator(build_sam(TINY), [shapes(0)])
