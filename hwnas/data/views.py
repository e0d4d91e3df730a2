"""Training views: a crop of an annotated image, turned, flipped and recolored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hwnas.data.folder import LabeledImage
from hwnas.data.transforms import fit_size, resize_ids

__all__ = ["View", "draw_view"]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A square input before normalization: `image` (R, R, 3), `instances` (R, R).

    Only the first `height` rows and `width` columns hold the picture; the rest is padding.
    """

    image: NDArray[np.uint8]
    instances: NDArray[np.int32]
    height: int
    width: int


def draw_view(
    labeled: LabeledImage, resolution: int, rng: np.random.Generator, *, crop: float, recolor: bool
) -> View:
    """Draw a view at `resolution`.

    With probability `crop` the view is a square part of the image, its side drawn between 0.35
    and 1 times the short side (log-uniform); else the whole image. Every view is one of the
    eight turns and flips. `recolor` changes gamma, contrast and brightness, and sometimes turns
    color to gray.
    """
    image, ids = labeled.image, labeled.instances
    if rng.random() < crop:
        image, ids = _crop(image, ids, rng)
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    image, ids = np.rot90(image, turns), np.rot90(ids, turns)
    if flip:
        image, ids = image[:, ::-1], ids[:, ::-1]
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
    return View(square, marks, height, width)


def _crop(
    image: NDArray[np.uint8], ids: NDArray[np.int32], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    height, width = ids.shape
    short = min(height, width)
    side = max(int(short * np.exp(rng.uniform(np.log(0.35), 0.0))), min(64, short))
    # Around a pixel of some object, so that most crops have something to prompt.
    ys, xs = np.nonzero(ids)
    pick = int(rng.integers(len(ys)))
    top = int(np.clip(ys[pick] - rng.integers(side), 0, height - side))
    left = int(np.clip(xs[pick] - rng.integers(side), 0, width - side))
    window = (slice(top, top + side), slice(left, left + side))
    return image[window], ids[window]


def _recolor(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    x = pixels.astype(np.float32) / 255
    if rng.random() < 0.3:
        x = np.repeat(x.mean(axis=2, keepdims=True), 3, axis=2)
    x = x ** np.float32(np.exp(rng.uniform(-0.5, 0.5)))
    gain, offset = rng.uniform(0.7, 1.3), rng.uniform(-0.1, 0.1)
    mean = x.mean()
    x = (x - mean) * np.float32(gain) + mean + np.float32(offset)
    return np.asarray(np.clip(x, 0, 1) * 255, dtype=np.uint8)
