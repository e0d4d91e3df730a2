"""What a subnet is trained to do: its batches, its predictions and their losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from hwnas.config.training import BatchConfig, TrainConfig
from hwnas.data.folder import LabeledImage
from hwnas.data.views import draw_view
from hwnas.supernet.decoder import decode
from hwnas.supernet.prompting import embed_boxes, embed_points
from hwnas.supernet.training.batches import Batch, batch_of
from hwnas.supernet.training.losses import distilled_mask_loss, mask_losses

__all__ = ["Prediction", "PromptTask", "Task"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """Mask logits (n, s, s) of n prompts and their predicted IoU (n,)."""

    logits: torch.Tensor
    iou: torch.Tensor


class Task(Protocol):
    """Batches, predictions and losses of one kind of segmentation."""

    def batch(
        self, images: Sequence[LabeledImage], size: BatchConfig, rng: np.random.Generator,
        rows: slice,
    ) -> Batch:  # fmt: skip
        """Draw a batch; only `rows` of it are made, the others are another process's."""
        ...

    def predict(self, sam: Any, embedding: torch.Tensor, batch: Batch) -> Prediction:
        """Decode an embedding (B, 256, g, g)."""
        ...

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, torch.Tensor]:
        """Losses against the annotation; `"loss"` is their sum."""
        ...

    def distil(self, prediction: Prediction, teacher: Prediction) -> torch.Tensor:
        """Loss against the teacher's prediction."""
        ...


class PromptTask:
    """Masks of objects from boxes and points, half of each."""

    def __init__(self, config: TrainConfig) -> None:
        self._config = config

    def batch(
        self, images: Sequence[LabeledImage], size: BatchConfig, rng: np.random.Generator,
        rows: slice,
    ) -> Batch:  # fmt: skip
        few = len(images) < size.images
        drawn = rng.choice(len(images), size.images, replace=few)
        # A generator for each row, so that a row is the same whoever makes it.
        seeds = rng.integers(2**63, size=size.images)
        parts = [
            self._row(images[image], size, np.random.default_rng(seed))
            for image, seed in zip(drawn[rows], seeds[rows], strict=True)
        ]
        return Batch(
            *(torch.cat([getattr(p, name) for p in parts])
              for name in ("images", "boxes", "points", "targets"))
        )  # fmt: skip

    def predict(self, sam: Any, embedding: torch.Tensor, batch: Batch) -> Prediction:
        labels = torch.ones(batch.points.shape[:-1], device=batch.points.device)
        sparse = torch.cat(
            [
                embed_boxes(sam, batch.boxes, batch.resolution),
                embed_points(sam, batch.points, labels, batch.resolution),
            ],
            dim=1,
        )  # (B, P, 2, 256): a box and a point with its padding both are two tokens
        logits, iou = decode(sam, embedding, sparse)
        return Prediction(logits[:, :, 0].flatten(0, 1).float(), iou[..., 0].flatten().float())

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, torch.Tensor]:
        return mask_losses(prediction.logits, prediction.iou, batch.targets.flatten(0, 1))

    def distil(self, prediction: Prediction, teacher: Prediction) -> torch.Tensor:
        return distilled_mask_loss(prediction.logits, teacher.logits)

    def _row(self, image: LabeledImage, size: BatchConfig, rng: np.random.Generator) -> Batch:
        config = self._config
        recolor = bool(rng.random() < config.recolor)
        view = draw_view(image, size.resolution, rng, crop=config.crop, recolor=recolor)
        return batch_of(
            [view], rng, prompts=size.prompts, min_pixels=config.min_pixels,
            box_jitter=config.box_jitter,
        )  # fmt: skip
