"""Batches of views with box and point prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from hwnas.data.prompts import Prompts, jitter_boxes, prompts_of, random_points
from hwnas.data.transforms import normalize
from hwnas.data.views import View

__all__ = ["Batch", "batch_of", "images_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B views with P prompts each; prompts before `n_boxes` are boxes, the others points.

    `images` (B, 3, R, R) normalized, padding zero; `boxes` (B, n_boxes, 4); `points`
    (B, P - n_boxes, 1, 2); `targets` (B, P, R/2, R/2) 0/1.
    """

    images: torch.Tensor
    boxes: torch.Tensor
    points: torch.Tensor
    targets: torch.Tensor

    @property
    def resolution(self) -> int:
        return self.images.shape[-1]

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        tensors = (self.images, self.boxes, self.points, self.targets)
        return Batch(*(tensor.to(device) for tensor in tensors))


def images_of(views: Sequence[View]) -> torch.Tensor:
    """Normalized inputs (B, 3, R, R) with zeros as padding."""
    pixels = normalize(torch.from_numpy(np.stack([v.image for v in views])).permute(0, 3, 1, 2))
    for row, view in enumerate(views):
        pixels[row, :, view.height :] = 0
        pixels[row, :, :, view.width :] = 0
    return pixels


def batch_of(
    views: Sequence[View],
    rng: np.random.Generator,
    *,
    prompts: int,
    min_pixels: int,
    box_jitter: float,
) -> Batch:
    """Draw `prompts` objects of each view, half for boxes, half for points.

    Objects of fewer than `min_pixels` pixels are left out unless the view has no others; a view
    with too few objects repeats them. Half of the boxes are tight, half jittered; half of the
    points are center-most, half anywhere on the object. A view must hold at least one object.
    """
    n_boxes = prompts // 2
    boxes, points, targets = [], [], []
    for view in views:
        found = prompts_of(view.instances, min_pixels=min_pixels)
        if not len(found.ids):
            found = prompts_of(view.instances)
        rows = rng.choice(len(found.ids), prompts, replace=len(found.ids) < prompts)
        drawn = Prompts(found.ids[rows], found.boxes[rows], found.points[rows])
        shaken = jitter_boxes(drawn.boxes, rng, spread=box_jitter, limit=20)
        anywhere = random_points(view.instances, drawn, rng)
        pick = rng.random(prompts)[:, None] < 0.5
        boxes.append(np.where(pick, drawn.boxes, shaken)[:n_boxes])
        points.append(np.where(pick, drawn.points, anywhere)[n_boxes:])
        marks = torch.from_numpy(np.ascontiguousarray(view.instances))
        masks = (marks == torch.from_numpy(drawn.ids)[:, None, None]).float()
        targets.append((functional.avg_pool2d(masks[None], 2)[0] >= 0.5).float())
    return Batch(
        images_of(views),
        torch.from_numpy(np.stack(boxes).astype(np.float32)),
        torch.from_numpy(np.stack(points).astype(np.float32))[:, :, None],
        torch.stack(targets),
    )
