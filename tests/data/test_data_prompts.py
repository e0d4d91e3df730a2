"""Prompts, transforms, baselines and scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hwnas.data.baselines import box_masks, otsu_masks, otsu_threshold
from hwnas.data.folder import LabeledImage
from hwnas.data.prompts import jitter_boxes, prompts_of, random_points
from hwnas.data.scores import iou_of_masks, mean_with_error
from hwnas.data.transforms import PIXEL_MEAN, fit_size, postprocess, preprocess
from hwnas.data.views import draw_view


def two_objects() -> np.ndarray:
    ids = np.zeros((40, 60), np.int32)
    ids[5:16, 10:31] = 7
    ids[30, 50] = 3
    return ids


def test_boxes_are_tight_on_pixel_edges_and_points_in_the_middle() -> None:
    prompts = prompts_of(two_objects())
    assert prompts.ids.tolist() == [3, 7]
    assert prompts.boxes.tolist() == [[50, 30, 51, 31], [10, 5, 31, 16]]
    assert prompts.points[0].tolist() == [50, 30]
    x, y = prompts.points[1]
    assert y == 10
    assert 15 <= x <= 25


def test_small_objects_can_be_left_out() -> None:
    assert prompts_of(two_objects(), min_pixels=2).ids.tolist() == [7]


def test_the_center_of_a_ring_is_on_the_ring() -> None:
    y, x = np.mgrid[:41, :41]
    distance = np.hypot(y - 20, x - 20)
    ids = ((distance > 8) & (distance < 18)).astype(np.int32)
    px, py = prompts_of(ids).points[0].astype(int)
    assert ids[py, px] == 1


def test_random_points_lie_on_their_object_and_depend_on_the_generator() -> None:
    ids = two_objects()
    prompts = prompts_of(ids)
    drawn = random_points(ids, prompts, np.random.default_rng(1))
    assert [ids[int(y), int(x)] for x, y in drawn] == [3, 7]
    again = random_points(ids, prompts, np.random.default_rng(1))
    assert (drawn == again).all()


def test_jitter_is_limited() -> None:
    boxes = np.tile(np.array([[0, 0, 1000, 1000]], np.float32), (200, 1))
    shaken = jitter_boxes(boxes, np.random.default_rng(0), spread=0.1, limit=20)
    assert 10 < np.abs(shaken - boxes).max() <= 20


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 40), (50, 50)])
def test_preprocess_pads_bottom_and_right_with_zeros(height: int, width: int) -> None:
    image = np.full((height, width, 3), 200, np.uint8)
    inside_h, inside_w = fit_size(height, width, 128)
    out = preprocess(image, 128)
    assert out.shape == (3, 128, 128)
    assert (out[:, inside_h:] == 0).all()
    assert (out[:, :, inside_w:] == 0).all()
    expected = (200 - PIXEL_MEAN[0]) / 58.395
    assert torch.allclose(out[0, :inside_h, :inside_w], torch.tensor(expected))


def test_postprocess_undoes_the_geometry_of_preprocess() -> None:
    height, width, resolution = 90, 120, 128
    truth = np.zeros((height, width), bool)
    truth[30:70, 20:100] = True
    small = preprocess(np.repeat(truth[..., None], 3, 2).astype(np.uint8) * 255, resolution)[0]
    logits = torch.nn.functional.avg_pool2d(small[None], 4)
    mask = postprocess(logits, (height, width)) > 0
    assert mask.shape == (1, height, width)
    assert iou_of_masks(mask.numpy(), truth[None])[0] > 0.93


def test_iou_and_standard_error() -> None:
    a = np.zeros((2, 4, 4), bool)
    b = np.zeros((2, 4, 4), bool)
    a[0, :2] = True
    b[0, 1:3] = True
    assert iou_of_masks(a, b).tolist() == [pytest.approx(1 / 3), 1.0]
    assert mean_with_error([0.5]) == (0.5, None)
    mean, error = mean_with_error([0.0, 1.0, 0.5, 0.5])
    assert mean == 0.5
    assert error == pytest.approx(np.std([0, 1, 0.5, 0.5], ddof=1) / 2)


def test_otsu_equals_the_exhaustive_search() -> None:
    values = np.random.default_rng(3).integers(0, 40, 200).astype(float)

    def spread(threshold: float) -> float:
        low, high = values[values <= threshold], values[values > threshold]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2

    best = max(np.unique(values)[:-1], key=spread)
    assert otsu_threshold(values) == best
    assert otsu_threshold(np.full(5, 3.0)) == 3.0


@pytest.mark.parametrize("invert", [False, True])
def test_otsu_finds_bright_and_dark_objects(invert: bool) -> None:
    y, x = np.mgrid[:64, :64]
    disk = np.hypot(y - 20, x - 20) < 9
    gray = np.where(disk, 200, 30).astype(np.uint8)
    image = np.repeat((255 - gray if invert else gray)[..., None], 3, 2)
    labeled = LabeledImage("disk", image, disk.astype(np.int32))
    prompts = prompts_of(labeled.instances)
    truth = labeled.instances[None] == 1
    assert iou_of_masks(otsu_masks(labeled, prompts), truth)[0] == 1
    assert iou_of_masks(box_masks(labeled, prompts), truth)[0] == disk.sum() / 17**2


def test_a_view_is_square_keeps_ids_and_repeats_with_its_seed() -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    labeled = LabeledImage("x", image, two_objects())
    for seed in range(6):
        views = [
            draw_view(labeled, 96, np.random.default_rng(seed), crop=0.5, recolor=True)
            for _ in range(2)
        ]
        assert (views[0].image == views[1].image).all()
        assert views[0].image.shape == (96, 96, 3)
        assert set(np.unique(views[0].instances)) <= {0, 3, 7}
        assert views[0].instances.any()
        assert not views[0].instances[views[0].height :].any()
