"""Small square tiles of annotated images, and classes that follow from their objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hwnas.data.labeled import LabeledImage
from hwnas.data.transforms import resize_ids
from hwnas.errors import DataError

__all__ = ["Tiles", "balanced_rows", "count_classes", "count_edges", "cut_tiles"]

Int = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """n tiles of S x S pixels.

    Attributes:
        pixels: RGB (n, S, S, 3) uint8.
        masks: 1 where an object is, else 0, (n, S, S) uint8.
        counts: Objects whose center of mass lies in the tile, (n,).
        sources: Which of the images each tile was cut from, (n,).
    """

    pixels: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    counts: Int
    sources: Int

    def __len__(self) -> int:
        return len(self.counts)

    def take(self, rows: Int) -> Tiles:
        """The tiles of some rows."""
        return Tiles(self.pixels[rows], self.masks[rows], self.counts[rows], self.sources[rows])


def cut_tiles(
    images: Sequence[LabeledImage], n: int, *, side: int, span: int, rng: np.random.Generator
) -> Tiles:
    """Cut n tiles, each from an image drawn at random, at a random place and turn.

    A tile covers `span` pixels of its image (its short side, where that is less) in `side` of its
    own: pixels are averaged, masks are those of the nearest pixel.
    """
    centers = [_centers(image.instances) for image in images]
    pixels = np.empty((n, side, side, 3), dtype=np.uint8)
    masks = np.empty((n, side, side), dtype=np.uint8)
    counts, sources = np.empty(n, dtype=np.int64), rng.integers(len(images), size=n)
    for row, source in enumerate(sources):
        image, own = images[source], centers[source]
        height, width = image.size
        edge = min(span, height, width)
        top, left = int(rng.integers(height - edge + 1)), int(rng.integers(width - edge + 1))
        window = slice(top, top + edge), slice(left, left + edge)
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        small = Image.fromarray(np.ascontiguousarray(image.image[window])).resize(
            (side, side), Image.Resampling.BOX if edge >= side else Image.Resampling.BILINEAR
        )
        ids = resize_ids(np.ascontiguousarray(image.instances[window]), side, side)
        pixels[row] = _turned(np.asarray(small), turns, flip=flip)
        masks[row] = _turned((ids > 0).astype(np.uint8), turns, flip=flip)
        corner = np.array([top, left])
        counts[row] = ((own >= corner) & (own < corner + edge)).all(axis=1).sum()
    return Tiles(pixels, masks, counts, sources)


def count_edges(counts: Int, classes: int) -> tuple[int, ...]:
    """Where to part numbers of objects into classes of nearly equal size.

    Class c holds the counts from the edge before it on, below its own edge.

    Raises:
        DataError: there are fewer different counts than classes.
    """
    values, first = np.unique(np.sort(counts), return_index=True)  # first: how many are below
    edges: list[int] = []
    for part in range(1, classes):
        left = [i for i in range(1, len(values)) if not edges or values[i] > edges[-1]]
        left = left[: len(left) - (classes - 1 - part)]
        if not left:
            raise DataError(
                f"the tiles hold {len(values)} different numbers of objects; expected at least "
                f"{classes}, one for each class: cut them from more images, or with a larger span"
            )
        wanted = part * len(counts) / classes
        edges.append(int(values[min(left, key=lambda i: abs(first[i] - wanted))]))
    return tuple(edges)


def count_classes(counts: Int, edges: Sequence[int]) -> Int:
    """The class of each count, 0 to len(edges)."""
    return np.searchsorted(np.asarray(edges), counts, side="right").astype(np.int64)


def balanced_rows(labels: Int, classes: int, n: int, rng: np.random.Generator) -> Int:
    """Draw n rows in random order, as many of each class; fewer where a class has too few.

    Raises:
        DataError: a class has no row.
    """
    held = np.bincount(labels, minlength=classes)
    if held.min() == 0:
        raise DataError(
            f"no tile is of class {int(held.argmin())} of {classes}; give more images, or more "
            "tiles"
        )
    each = min(-(-n // classes), int(held.min()))
    rows = [rng.permutation(np.flatnonzero(labels == c))[:each] for c in range(classes)]
    return rng.permutation(np.concatenate(rows))[:n]


def _centers(ids: NDArray[np.int32]) -> NDArray[np.float64]:
    """Row and column of the center of mass of each object, (objects, 2)."""
    ys, xs = np.nonzero(ids)
    if not len(ys):
        return np.empty((0, 2))
    _, own = np.unique(ids[ys, xs], return_inverse=True)
    area = np.bincount(own)
    return np.stack([np.bincount(own, ys) / area, np.bincount(own, xs) / area], axis=1)


def _turned(pixels: NDArray[np.uint8], turns: int, *, flip: bool) -> NDArray[np.uint8]:
    pixels = np.rot90(pixels, turns)
    return pixels[:, ::-1] if flip else pixels
