"""How far the embeddings of a subnet are from those of the full-precision largest network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from hwnas.data.transforms import fit_size

__all__ = ["ChannelNoise", "resize_embedding", "valid_part"]


class ChannelNoise:
    """Noise-to-signal ratio against fixed teacher embeddings (C, h, w), one for each image.

    NSR = (1 / C) sum over channels of MSE_c / (Var_c + eps mean_c Var), eps = 1e-3. Var_c is the
    variance of the teacher's channel over all positions of all images, taken once, so that an
    image's value does not depend on which others are scored with it. 0 for the teacher itself, 1
    for a constant that equals each channel's mean; a dead channel stays finite.
    """

    EPS = 1e-3

    def __init__(self, teachers: Sequence[torch.Tensor]) -> None:
        self.teachers = tuple(teachers)
        values = torch.cat([t.flatten(1) for t in teachers], dim=1).double()
        variance = values.var(dim=1, unbiased=False)
        self._weights = 1.0 / (variance + self.EPS * variance.mean())  # (C,)

    def ratio(self, image: int, embedding: torch.Tensor) -> float:
        """Ratio of one image from its embedding (C, h, w) on the teacher's grid."""
        errors = (embedding - self.teachers[image]).square().mean(dim=(1, 2)).double()
        return float((errors * self._weights).mean())


def resize_embedding(embedding: torch.Tensor, grid: int) -> torch.Tensor:
    """Resize (B, C, g, g) to (B, C, grid, grid), bilinear, corners not aligned."""
    if embedding.shape[-1] == grid:
        return embedding
    return functional.interpolate(embedding, (grid, grid), mode="bilinear", align_corners=False)


def valid_part(embedding: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The cells (C, h, w) of (1, C, g, g) that hold a picture of `size` (H, W), padding cut off."""
    height, width = fit_size(*size, embedding.shape[-1])
    return embedding[0, :, : max(height, 1), : max(width, 1)]
