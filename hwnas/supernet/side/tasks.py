"""Batches for side networks: views that come again, so that features are cached, and clips."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from hwnas.config.training import BatchConfig, TrainConfig
from hwnas.data.clips import clips_of
from hwnas.data.labeled import LabeledImage
from hwnas.data.views import View, draw_view
from hwnas.supernet.training.batches import Batch, batch_of
from hwnas.supernet.training.elastic.tasks import Prediction, PromptTask, draw_rows

__all__ = ["ClipTask", "FixedViews"]


class _Prompted:
    """Predictions and losses of `PromptTask`, on batches of one's own."""

    def __init__(self, config: TrainConfig) -> None:
        self._config, self._prompts = config, PromptTask(config)

    def predict(self, sam: Any, embedding: torch.Tensor, batch: Batch) -> Prediction:
        return self._prompts.predict(sam, embedding, batch)

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, torch.Tensor]:
        return self._prompts.loss(prediction, batch)

    def distil(self, prediction: Prediction, teacher: Prediction) -> torch.Tensor:
        return self._prompts.distil(prediction, teacher)

    def _prompted(
        self, views: Sequence[View], rng: np.random.Generator, size: BatchConfig
    ) -> Batch:
        return batch_of(
            views, rng, prompts=size.prompts, min_pixels=self._config.min_pixels,
            box_jitter=self._config.box_jitter,
        )  # fmt: skip


class FixedViews(_Prompted):
    """A `Task` of `views` crops, turns and colors for each image, drawn once, and fresh prompts.

    A view depends on the image's pixels, the resolution, its number and `seed`; once all of them
    were seen, a `FeatureCache` runs the encoder no more.
    """

    def __init__(self, config: TrainConfig, *, views: int = 4, seed: int = 0) -> None:
        super().__init__(config)
        self._views, self._seed = views, seed

    def batch(
        self, images: Sequence[LabeledImage], size: BatchConfig, rng: np.random.Generator,
        rows: slice,
    ) -> Batch:  # fmt: skip
        """As `PromptTask.batch`, one of the fixed views an image."""
        return _joined(
            [
                self._prompted([self._view(image, size.resolution, row)], row, size)
                for image, row in draw_rows(images, size.images, rng, rows)
            ]
        )

    def _view(self, image: LabeledImage, resolution: int, row: np.random.Generator) -> View:
        mark = zlib.crc32(np.ascontiguousarray(image.image).data)
        number = int(row.integers(self._views))
        fixed = np.random.default_rng([self._seed, resolution, number, mark])
        recolor = bool(fixed.random() < self._config.recolor)
        return draw_view(image, resolution, fixed, crop=self._config.crop, recolor=recolor)


class ClipTask(_Prompted):
    """A `Task` of clips: `size.images` of them a batch, each `frames` frames, one after the other.

    The clips are windows that move over still images (`hwnas.data.clips`), turned and recolored as
    a whole; each frame has prompts of its own.
    """

    def __init__(self, config: TrainConfig, frames: int) -> None:
        super().__init__(config)
        self.frames = frames

    def batch(
        self, images: Sequence[LabeledImage], size: BatchConfig, rng: np.random.Generator,
        rows: slice,
    ) -> Batch:  # fmt: skip
        """Batch of images (B F, 3, R, R) with the prompts of each."""
        return _joined(
            [
                self._prompted(self._views(image, size.resolution, row), row, size)
                for image, row in draw_rows(images, size.images, rng, rows)
            ]
        )

    def _views(self, image: LabeledImage, resolution: int, row: np.random.Generator) -> list[View]:
        (clip,) = clips_of(image, self.frames, row)
        recolor, seed = bool(row.random() < self._config.recolor), int(row.integers(2**63))
        return [  # the same generator for every frame: the same turn and colors
            draw_view(frame, resolution, np.random.default_rng(seed), crop=0, recolor=recolor)
            for frame in clip
        ]


def _joined(parts: Sequence[Batch]) -> Batch:
    names = ("images", "boxes", "points", "targets")
    return Batch(*(torch.cat([getattr(part, name) for part in parts]) for name in names))
