"""Training views: a crop of an annotated image, turned, flipped and recolored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hwnas.data.labeled import IGNORED, LabeledImage
from hwnas.data.transforms import fit_size, resize_ids

__all__ = ["View", "draw_view"]

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A square input before normalization: `image` (R, R, 3), `instances` (R, R).

    Only the first `height` rows and `width` columns hold the picture; the rest is padding.
    `labels` (R, R) are classes, 255 in the padding; None where the data has no classes.
    """

    image: NDArray[np.uint8]
    instances: NDArray[np.int32]
    height: int
    width: int
    labels: NDArray[np.uint8] | None = None

    @property
    def semantic(self) -> NDArray[np.uint8]:
        """The class of each pixel (R, R): 0 background, 255 ignored and in the padding."""
        if self.labels is not None:
            return self.labels
        found = np.full(self.instances.shape, IGNORED, dtype=np.uint8)
        found[: self.height, : self.width] = self.instances[: self.height, : self.width] > 0
        return found


def draw_view(
    labeled: LabeledImage, resolution: int, rng: np.random.Generator, *, crop: float, recolor: bool
) -> View:
    """Draw a view at `resolution`.

    With probability `crop` the view is a square part of the image, its side drawn between 0.35
    and 1 times the short side (log-uniform); else the whole image. Every view is one of the
    eight turns and flips. `recolor` changes gamma, contrast and brightness, and sometimes turns
    color to gray.
    """
    image, ids, labels = labeled.image, labeled.instances, labeled.labels
    if rng.random() < crop:
        window = _crop(ids, rng)
        image, ids, labels = image[window], ids[window], None if labels is None else labels[window]
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    image, ids = _turned(image, turns, flip), _turned(ids, turns, flip)
    height, width = fit_size(ids.shape[0], ids.shape[1], resolution)
    small = Image.fromarray(np.ascontiguousarray(image)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    pixels = np.asarray(small)
    if recolor:
        pixels = _recolor(pixels, rng)
    square = np.zeros((resolution, resolution, 3), dtype=np.uint8)
    marks = np.zeros((resolution, resolution), dtype=np.int32)
    square[:height, :width] = pixels
    marks[:height, :width] = resize_ids(np.ascontiguousarray(ids), height, width)
    if labels is None:
        return View(square, marks, height, width)
    classes = np.full((resolution, resolution), IGNORED, dtype=np.uint8)
    turned = np.ascontiguousarray(_turned(labels, turns, flip)).astype(np.int32)
    classes[:height, :width] = resize_ids(turned, height, width)
    return View(square, marks, height, width, classes)


def _turned(pixels: NDArray[Scalar], turns: int, flip: bool) -> NDArray[Scalar]:
    pixels = np.rot90(pixels, turns)
    return pixels[:, ::-1] if flip else pixels


def _crop(ids: NDArray[np.int32], rng: np.random.Generator) -> tuple[slice, slice]:
    height, width = ids.shape
    short = min(height, width)
    side = max(int(short * np.exp(rng.uniform(np.log(0.35), 0.0))), min(64, short))
    # Around a pixel of some object, so that most crops have something to prompt.
    ys, xs = np.nonzero(ids)
    if not len(ys):  # an image without objects: anywhere
        ys, xs = np.nonzero(np.ones_like(ids))
    pick = int(rng.integers(len(ys)))
    top = int(np.clip(ys[pick] - rng.integers(side), 0, height - side))
    left = int(np.clip(xs[pick] - rng.integers(side), 0, width - side))
    return slice(top, top + side), slice(left, left + side)


def _recolor(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    x = pixels.astype(np.float32) / 255
    if rng.random() < 0.3:
        x = np.repeat(x.mean(axis=2, keepdims=True), 3, axis=2)
    x = x ** np.float32(np.exp(rng.uniform(-0.5, 0.5)))
    gain, offset = rng.uniform(0.7, 1.3), rng.uniform(-0.1, 0.1)
    mean = x.mean()
    x = (x - mean) * np.float32(gain) + mean + np.float32(offset)
    return np.asarray(np.clip(x, 0, 1) * 255, dtype=np.uint8)
