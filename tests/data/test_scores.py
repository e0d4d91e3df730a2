"""Scores against loops that follow their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.data.confusion import class_scores, confusion
from hwnas.data.labeled import LabeledImage
from hwnas.data.scores import (
    border_band,
    border_width,
    boundary_iou,
    iou_of_masks,
    mean_of_images,
    mean_of_objects,
)
from hwnas.data.truths import prepare_truths, score_window
from hwnas.errors import DataError


def blobs(rng: np.random.Generator, n: int, height: int, width: int) -> np.ndarray:
    masks = np.zeros((n, height, width), bool)
    for mask in masks:
        y, x = rng.integers(0, height), rng.integers(0, width)
        mask[max(y - 9, 0) : y + int(rng.integers(1, 12)), max(x - 7, 0) : x + 6] = True
    return masks


def naive_band(mask: np.ndarray, width: int) -> np.ndarray:
    height, columns = mask.shape
    band = np.zeros_like(mask)
    for y in range(height):
        for x in range(columns):
            near = [
                not (0 <= a < height and 0 <= b < columns) or not mask[a, b]
                for a in range(y - width, y + width + 1)
                for b in range(x - width, x + width + 1)
            ]
            band[y, x] = mask[y, x] and any(near)
    return band


def test_the_border_band_follows_its_definition() -> None:
    for mask in blobs(np.random.default_rng(0), 5, 17, 23):
        for width in (1, 3):
            assert (border_band(mask, width) == naive_band(mask, width)).all()
    assert border_width(1000, 1000) == 28
    assert border_width(9, 9) == 1


def test_boundary_iou_is_stricter_for_large_objects_only() -> None:
    truth = np.zeros((1, 100, 100), bool)
    truth[0, 10:90, 10:90] = True
    moved = np.roll(truth, 2, axis=2)
    assert boundary_iou(moved, truth)[0] < iou_of_masks(moved, truth)[0]
    assert boundary_iou(truth, truth).tolist() == [1.0]
    thin = np.zeros((1, 100, 100), bool)
    thin[0, 40:44] = True
    assert boundary_iou(np.roll(thin, 1, 1), thin) == iou_of_masks(np.roll(thin, 1, 1), thin)


@pytest.mark.parametrize("ignore", [False, True])
def test_scores_in_windows_equal_those_of_whole_masks(ignore: bool) -> None:
    rng = np.random.default_rng(2)
    ids = np.zeros((40, 60), np.int32)
    for number, mask in enumerate(blobs(rng, 6, 40, 60), start=1):
        ids[mask] = number
    labels = (ids > 0).astype(np.uint8)
    if ignore:
        labels[:, 20:30] = 255
    image = LabeledImage("x", np.zeros((40, 60, 3), np.uint8), ids, labels=labels)
    truths = prepare_truths(image, boundary=True)
    found = blobs(rng, len(truths.objects), 40, 60)
    found[0] = False
    for number, truth, mask in zip(truths.prompts.ids, truths.objects, found, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        window = (slice(0, 0), slice(0, 0))
        if len(rows):
            window = (slice(int(rows[0]), int(rows[-1]) + 1),
                      slice(int(columns[0]), int(columns[-1]) + 1))  # fmt: skip
        score, band = score_window(truths, truth, mask[window], window)
        counted = labels != 255
        whole = (ids == number) & counted
        assert score == iou_of_masks((mask & counted)[None], whole[None])[0]
        if not ignore:
            assert band == boundary_iou(mask[None], whole[None])[0]


def test_class_scores_equal_a_loop_over_pixels() -> None:
    rng = np.random.default_rng(5)
    truths = rng.integers(0, 4, (6, 9, 7)).astype(np.uint8)
    truths[rng.random(truths.shape) < 0.1] = 255
    found = np.where(rng.random(truths.shape) < 0.6, truths % 255, rng.integers(0, 4, truths.shape))
    matrices = [confusion(f, t, 4) for f, t in zip(found, truths, strict=True)]
    scores = class_scores(matrices, ("a", "b", "c", "d"))
    assert set(scores.classes) == {"a", "b", "c"}  # d never occurs
    for number, name in enumerate("abc", start=1):
        both = sum(int(f == number == t) for f, t in zip(found.flat, truths.flat, strict=True))
        either = sum(
            int(t != 255 and number in (f, t)) for f, t in zip(found.flat, truths.flat, strict=True)
        )
        assert scores.classes[name][0] == pytest.approx(both / either)
    assert scores.miou == pytest.approx(np.mean([v for v, _ in scores.classes.values()]))
    left = []
    for out in range(6):
        rest = [m for i, m in enumerate(matrices) if i != out]
        left.append(class_scores(rest, ("a", "b", "c", "d")).miou)
    expected = np.sqrt(5 / 6 * np.sum((np.array(left) - np.mean(left)) ** 2))
    assert scores.error == pytest.approx(expected)


def test_means_over_images_and_over_objects() -> None:
    values = [np.array([0.0, 1.0]), np.zeros(0), np.array([0.4])]
    assert mean_of_images(values)[0] == pytest.approx(0.45)
    assert mean_of_objects([values[0], values[2]])[0] == pytest.approx(1.4 / 3)
    # leaving out one of two images leaves 0.4 or 0.5
    assert mean_of_objects([values[0], values[2]])[1] == pytest.approx(0.05)
    equal = [np.array([v]) for v in (0.1, 0.5, 0.9)]  # one object each: the usual error
    assert mean_of_objects(equal)[1] == pytest.approx(np.std([0.1, 0.5, 0.9], ddof=1) / 3**0.5)
    assert mean_of_images([values[0]])[1] == pytest.approx(0.5)
    with pytest.raises(DataError, match="no image has an object"):
        mean_of_images([np.zeros(0)])
