"""What networks learn from tiles: how many objects there are, or where they are.

Counts are parted into classes at quantiles of the tiles, and tiles are drawn so that each class has
as many: guessing is right once in as many cases as there are classes. That is no floor for what is
easy: brightness tells much of how many bright objects a tile holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from hwnas.data.confusion import class_scores, confusion
from hwnas.data.scores import mean_of_objects
from hwnas.data.tiles import Tiles, balanced_rows, count_classes, count_edges
from hwnas.data.transforms import normalize
from hwnas.supernet.training.losses import semantic_losses
from hwnas.workload.cnn_plan import CnnGeometry

__all__ = ["CountTask", "MaskTask", "TileSet", "TileTask", "task_of", "tile_loss"]

Int = NDArray[np.int64]
_OBJECT = ("object",)


@dataclass(frozen=True, slots=True, eq=False)
class TileSet:
    """Tiles with what is to be said of them.

    `pixels` (n, 3, S, S) uint8; `targets` int64, (n,) or (n, S, S); `sources` (n,) is the image of
    each.
    """

    pixels: torch.Tensor
    targets: torch.Tensor
    sources: Int

    def __len__(self) -> int:
        return len(self.targets)

    def inputs(self, rows: torch.Tensor | slice) -> torch.Tensor:
        """The normalized inputs (b, 3, S, S) of some rows."""
        return normalize(self.pixels[rows])


class TileTask(Protocol):
    """Targets of tiles, and a score of logits, higher is better."""

    @property
    def metric(self) -> str:
        """What the score is, in words."""
        ...

    def choose(self, tiles: Tiles, n: int, rng: np.random.Generator) -> TileSet:
        """Draw n of the tiles, if there are as many, with their targets."""
        ...

    def score(self, logits: torch.Tensor, tiles: TileSet) -> tuple[float, float | None]:
        """The score over all tiles, between 0 and 1, and its standard error over images."""
        ...


def tile_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Loss of a batch: cross-entropy of classes (B, C) against (B,), or `semantic_losses`.

    The latter where `targets` (B, S, S) are of pixels, logits (B, 2, S, S).
    """
    if targets.ndim == 1:
        return functional.cross_entropy(logits, targets)
    return semantic_losses(logits, targets)["loss"]


def task_of(geometry: CnnGeometry, tiles: Tiles) -> TileTask:
    """The task of networks of a layout; where it has classes, they are made of these tiles."""
    if geometry.ending == "pixels":
        return MaskTask()
    return CountTask(count_edges(tiles.counts, geometry.outputs))


@dataclass(frozen=True, slots=True)
class CountTask:
    """The class of a tile by its number of objects, parted at `edges`; scored by accuracy."""

    edges: tuple[int, ...]

    @property
    def metric(self) -> str:
        return "accuracy"

    def choose(self, tiles: Tiles, n: int, rng: np.random.Generator) -> TileSet:
        labels = count_classes(tiles.counts, self.edges)
        rows = balanced_rows(labels, len(self.edges) + 1, n, rng)
        return _tile_set(tiles.take(rows), labels[rows])

    def score(self, logits: torch.Tensor, tiles: TileSet) -> tuple[float, float | None]:
        right = (logits.argmax(1) == tiles.targets).numpy().astype(np.float64)
        return mean_of_objects([right[rows] for rows in _by_image(tiles.sources)])


@dataclass(frozen=True, slots=True)
class MaskTask:
    """Whether a pixel is of an object; scored by the IoU of objects, over all pixels together."""

    @property
    def metric(self) -> str:
        return "foreground IoU"

    def choose(self, tiles: Tiles, n: int, rng: np.random.Generator) -> TileSet:
        chosen = tiles.take(rng.permutation(len(tiles))[:n])
        return _tile_set(chosen, chosen.masks.astype(np.int64))

    def score(self, logits: torch.Tensor, tiles: TileSet) -> tuple[float, float | None]:
        found = logits.argmax(1).numpy()
        truth = tiles.targets.numpy().astype(np.uint8)
        scores = class_scores(
            [confusion(found[rows], truth[rows], 1) for rows in _by_image(tiles.sources)], _OBJECT
        )
        return scores.miou, scores.error


def _tile_set(tiles: Tiles, targets: Int) -> TileSet:
    pixels = np.ascontiguousarray(tiles.pixels.transpose(0, 3, 1, 2))
    return TileSet(torch.from_numpy(pixels), torch.from_numpy(targets), tiles.sources)


def _by_image(sources: Int) -> Sequence[Int]:
    return [np.flatnonzero(sources == source) for source in np.unique(sources)]
