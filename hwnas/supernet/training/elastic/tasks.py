"""What a subnet is trained to do: its batches, its predictions and their losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from hwnas.config.training import BatchConfig, TrainConfig
from hwnas.data.folder import LabeledImage
from hwnas.data.views import draw_view
from hwnas.supernet.decoder import decode
from hwnas.supernet.prompting import embed_prompts
from hwnas.supernet.training.batches import Batch, batch_of
from hwnas.supernet.training.losses import distilled_mask_loss, mask_losses

__all__ = ["Prediction", "PromptTask", "Task", "draw_rows"]

AnyBatch = TypeVar("AnyBatch")


@dataclass(frozen=True, slots=True)
class Prediction:
    """Mask logits (n, s, s) of n prompts and their predicted IoU (n,).

    Without prompts: class logits (B, C + 1, s, s) and no predicted IoU (0,).
    """

    logits: torch.Tensor
    iou: torch.Tensor

    def detach(self) -> Prediction:
        """The same without gradients."""
        return Prediction(self.logits.detach(), self.iou.detach())


class Task(Protocol[AnyBatch]):
    """Batches, predictions and losses of one kind of segmentation.

    A batch has `images` (B, 3, R, R) and `to(device)`.
    """

    def batch(
        self, images: Sequence[LabeledImage], size: BatchConfig, rng: np.random.Generator,
        rows: slice,
    ) -> AnyBatch:  # fmt: skip
        """Draw a batch; only `rows` of it are made, the others are another process's."""
        ...

    def predict(self, sam: Any, embedding: torch.Tensor, batch: AnyBatch) -> Prediction:
        """Decode an embedding (B, 256, g, g)."""
        ...

    def loss(self, prediction: Prediction, batch: AnyBatch) -> dict[str, torch.Tensor]:
        """Losses against the annotation; `"loss"` is their sum, `"iou"` a figure to log."""
        ...

    def distil(self, prediction: Prediction, teacher: Prediction) -> torch.Tensor:
        """Loss against the teacher's prediction."""
        ...


def draw_rows(
    images: Sequence[LabeledImage], count: int, rng: np.random.Generator, rows: slice
) -> list[tuple[LabeledImage, np.random.Generator]]:
    """Draw `count` images and give back those of `rows`, each with a generator of its own.

    So a row is the same whoever makes it. No image is drawn twice unless there are too few.
    """
    drawn = rng.choice(len(images), count, replace=len(images) < count)
    seeds = rng.integers(2**63, size=count)
    return [
        (images[image], np.random.default_rng(seed))
        for image, seed in zip(drawn[rows], seeds[rows], strict=True)
    ]


class PromptTask:
    """Masks of objects from boxes and points, half of each."""

    def __init__(self, config: TrainConfig) -> None:
        self._config = config

    def batch(
        self, images: Sequence[LabeledImage], size: BatchConfig, rng: np.random.Generator,
        rows: slice,
    ) -> Batch:  # fmt: skip
        parts = [self._row(*row, size) for row in draw_rows(images, size.images, rng, rows)]
        return Batch(
            *(torch.cat([getattr(p, name) for p in parts])
              for name in ("images", "boxes", "points", "targets"))
        )  # fmt: skip

    def predict(self, sam: Any, embedding: torch.Tensor, batch: Batch) -> Prediction:
        prompts = embed_prompts(sam, batch.boxes, batch.points, batch.resolution)
        dense = prompts.dense(sam, embedding.shape[-1])
        logits, iou = decode(sam, embedding, prompts.sparse, dense=dense)
        return Prediction(logits[:, :, 0].flatten(0, 1).float(), iou[..., 0].flatten().float())

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, torch.Tensor]:
        return mask_losses(prediction.logits, prediction.iou, batch.targets.flatten(0, 1))

    def distil(self, prediction: Prediction, teacher: Prediction) -> torch.Tensor:
        return distilled_mask_loss(prediction.logits, teacher.logits)

    def _row(self, image: LabeledImage, rng: np.random.Generator, size: BatchConfig) -> Batch:
        config = self._config
        recolor = bool(rng.random() < config.recolor)
        view = draw_view(image, size.resolution, rng, crop=config.crop, recolor=recolor)
        return batch_of(
            [view], rng, prompts=size.prompts, min_pixels=config.min_pixels,
            box_jitter=config.box_jitter,
        )  # fmt: skip
