"""An auxiliary task for the encoder: every pixel says whether it is object and where its center is.

A prompt teaches the encoder about one object; this teaches it about all objects of the image at
the price of one 1 x 1 convolution. The head is dropped after training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

__all__ = ["DenseHead", "dense_loss", "dense_targets"]

_UNIT = 16.0  # pixels of the input; offsets are in cells of the embedding


class DenseHead(nn.Module):
    """Maps an embedding (B, 256, g, g) to (B, 3, 8g, 8g): object logit, offset x, offset y."""

    def __init__(self, dim: int = 256) -> None:
        super().__init__()
        self.projection = nn.Conv2d(dim, 3 * 64, 1)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        return functional.pixel_shuffle(self.projection(embedding), 8)


def dense_targets(ids: Sequence[NDArray[np.int32]]) -> torch.Tensor:
    """Object (0 or 1) and offset to the object's centroid, (B, 3, R/2, R/2), of id maps (R, R)."""
    targets = []
    for full in ids:
        small = np.ascontiguousarray(full[::2, ::2])
        y, x = np.mgrid[: small.shape[0], : small.shape[1]].astype(np.float32) * 2
        flat = small.ravel()
        counts = np.maximum(np.bincount(flat), 1)
        cx = np.bincount(flat, weights=x.ravel()) / counts
        cy = np.bincount(flat, weights=y.ravel()) / counts
        inside = small > 0
        dx = np.where(inside, cx[small] - x, 0) / _UNIT
        dy = np.where(inside, cy[small] - y, 0) / _UNIT
        targets.append(np.stack([inside, dx, dy]).astype(np.float32))
    return torch.from_numpy(np.stack(targets))


def dense_loss(predicted: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy and dice of the object map, and absolute error of the offsets on objects."""
    truth = targets[:, 0]
    entropy = functional.binary_cross_entropy_with_logits(predicted[:, 0], truth)
    chance = predicted[:, 0].sigmoid()
    both = (chance * truth).sum((1, 2))
    dice = 1 - (2 * both + 1) / (chance.sum((1, 2)) + truth.sum((1, 2)) + 1)
    error = functional.smooth_l1_loss(predicted[:, 1:], targets[:, 1:], reduction="none", beta=0.1)
    offset = (error.sum(1) * truth).sum() / truth.sum().clamp(min=1)
    return entropy + dice.mean() + 0.5 * offset
