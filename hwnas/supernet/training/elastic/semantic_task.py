"""The task without prompts: classes of all pixels, by a semantic head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hwnas.config.training import BatchConfig, TrainConfig
from hwnas.data.labeled import IGNORED, LabeledImage
from hwnas.data.views import draw_view
from hwnas.supernet.decoder import decode_semantic
from hwnas.supernet.semantic import semantic_targets
from hwnas.supernet.training.batches import images_of
from hwnas.supernet.training.elastic.tasks import Prediction, PromptTask, Task, draw_rows
from hwnas.supernet.training.losses import distilled_class_loss, semantic_losses

__all__ = ["ClassBatch", "SemanticTask", "task_of"]


def task_of(config: TrainConfig) -> Task[Any]:
    """The task of a recipe."""
    return SemanticTask(config) if config.task == "semantic" else PromptTask(config)


@dataclass(frozen=True, slots=True, eq=False)
class ClassBatch:
    """B views with their classes.

    `images` (B, 3, R, R) normalized, padding zero; `labels` (B, R/4, R/4) int64, 0 for background,
    1 to C for classes, 255 where ignored and in the padding.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def to(self, device: torch.device) -> ClassBatch:
        """The batch on a device."""
        return ClassBatch(self.images.to(device), self.labels.to(device))


class SemanticTask:
    """The class of each pixel, for a model with a semantic head (`semantic_head`).

    The dice loss is of a batch's pixels together, so several processes, each with its share of
    the batch, come close to the curve of a single one without being equal to it.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._config = config

    def batch(
        self, images: Sequence[LabeledImage], size: BatchConfig, rng: np.random.Generator,
        rows: slice,
    ) -> ClassBatch:  # fmt: skip
        config, views = self._config, []
        for image, own in draw_rows(images, size.images, rng, rows):
            recolor = bool(own.random() < config.recolor)
            views.append(draw_view(image, size.resolution, own, crop=config.crop, recolor=recolor))
        return ClassBatch(images_of(views), semantic_targets(views, size.resolution // 4))

    def predict(self, sam: Any, embedding: torch.Tensor, batch: ClassBatch) -> Prediction:
        logits = decode_semantic(sam, embedding).float()
        return Prediction(logits, logits.new_empty(0))

    def loss(self, prediction: Prediction, batch: ClassBatch) -> dict[str, torch.Tensor]:
        losses = semantic_losses(prediction.logits, batch.labels)
        return {**losses, "iou": _mean_iou(prediction.logits, batch.labels)}

    def distil(self, prediction: Prediction, teacher: Prediction) -> torch.Tensor:
        return distilled_class_loss(prediction.logits, teacher.logits)


@torch.no_grad()
def _mean_iou(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over the classes that occur in truth or prediction, without background; 0 if none."""
    count, counted = logits.shape[1], labels != IGNORED
    pairs = labels[counted] * count + logits.argmax(1)[counted]
    matrix = torch.bincount(pairs, minlength=count**2).reshape(count, count).float()
    both = matrix.diagonal()[1:]
    either = (matrix.sum(0) + matrix.sum(1))[1:] - both
    return (both / either.clamp(min=1)).sum() / (either > 0).sum().clamp(min=1)
