"""Box and point prompts from annotated objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Prompts", "center_points", "jitter_boxes", "prompts_of", "random_points"]


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """One box (n, 4) and one point (n, 2) for each of n objects, in pixels of the image.

    Boxes are x0, y0, x1, y1 on pixel edges: tight around the object, so that an object of one
    pixel has sides of 1. Points are x, y in the center-most pixel. `ids` (n,) are object ids.
    """

    ids: NDArray[np.int32]
    boxes: NDArray[np.float32]
    points: NDArray[np.float32]


def prompts_of(instances: NDArray[np.int32], *, min_pixels: int = 1) -> Prompts:
    """Prompts of all objects of at least `min_pixels` in an id map (H, W), by ascending id."""
    found = [
        (index + 1, where)
        for index, where in enumerate(ndimage.find_objects(instances))
        if where is not None
    ]
    if min_pixels > 1:
        areas = np.bincount(instances.ravel())
        found = [(i, where) for i, where in found if areas[i] >= min_pixels]
    boxes = [(x.start, y.start, x.stop, y.stop) for _, (y, x) in found]
    ids = np.array([i for i, _ in found], dtype=np.int32)
    return Prompts(
        ids,
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        center_points(instances, ids, np.array(boxes, dtype=np.int64).reshape(-1, 4)),
    )


def center_points(
    instances: NDArray[np.int32], ids: NDArray[np.int32], boxes: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The pixel (x, y) of each object that is farthest from its border; (n, 2).

    Euclidean distance transform; the border of the image counts as the object's border. Ties go
    to the first pixel in reading order.
    """
    points = np.empty((len(ids), 2), dtype=np.float32)
    for row, (i, (x0, y0, x1, y1)) in enumerate(zip(ids, boxes, strict=True)):
        inside = np.pad(instances[y0:y1, x0:x1] == i, 1)
        distance = ndimage.distance_transform_edt(inside)
        y, x = np.unravel_index(int(np.argmax(distance)), inside.shape)
        points[row] = (x0 + x - 1, y0 + y - 1)
    return points


def random_points(
    instances: NDArray[np.int32], prompts: Prompts, rng: np.random.Generator
) -> NDArray[np.float32]:
    """A uniformly drawn pixel (x, y) of each object; (n, 2)."""
    points = np.empty_like(prompts.points)
    for row, (i, box) in enumerate(zip(prompts.ids, prompts.boxes.astype(int), strict=True)):
        x0, y0, x1, y1 = box
        ys, xs = np.nonzero(instances[y0:y1, x0:x1] == i)
        pick = rng.integers(len(ys))
        points[row] = (x0 + xs[pick], y0 + ys[pick])
    return points


def jitter_boxes(
    boxes: NDArray[np.float32], rng: np.random.Generator, *, spread: float, limit: float
) -> NDArray[np.float32]:
    """Shift each side by normal noise of `spread` times the box's length along that axis.

    The shift is at most `limit` pixels, so that a large box is not moved off its object
    (SAM, appendix A: 10 % of the side, 20 pixels at the most).
    """
    width = boxes[:, 2] - boxes[:, 0]
    height = boxes[:, 3] - boxes[:, 1]
    lengths = np.stack([width, height, width, height], axis=1)
    shift = rng.normal(size=boxes.shape) * spread * lengths
    return (boxes + np.clip(shift, -limit, limit)).astype(np.float32)
