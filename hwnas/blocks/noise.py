"""The noise-to-signal ratio of a block's output against the teacher's.

    NSR = (1 / C) Σ_c MSE_c / (Var_c + eps mean_c Var),  eps = 1e-3

The variance is taken once over the whole calibration set, so that the value of a block depends on
no batch. Padding counts neither in errors nor in variances. Source: the loss of DONNA as the
Blox benchmark trains with it (Chun et al., arXiv 2210.07271); eps is ours, for dead channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from hwnas.errors import DataError

__all__ = ["EPS", "ChannelScale", "errors_of_images"]

EPS = 1e-3


@dataclass(frozen=True, eq=False)
class ChannelScale:
    """Weights (C,) that turn squared errors into the ratio: 1 / (C (Var_c + eps mean Var)).

    `dead` is how many channels of the teacher do not vary at all.
    """

    weights: torch.Tensor
    dead: int

    @classmethod
    def of(cls, features: torch.Tensor, valid: torch.Tensor, *, name: str) -> Self:
        """Measure features (n, g, g, C) where `valid` (n, g, g); `name` is for the error.

        Raises:
            DataError: no channel varies, or features are not finite.
        """
        count = int(valid.sum())
        mean = _sums(features, valid) / count
        variance = _sums((features - mean.float()).square(), valid) / count
        if not bool(torch.isfinite(variance).all()):
            raise DataError(f"{name}: the teacher's features are not finite; check its weights")
        average = float(variance.mean())
        if not average:
            raise DataError(
                f"{name}: the teacher's features are the same everywhere in {len(features)} "
                "images, so that no block can be compared with them; give images that differ"
            )
        weights = 1.0 / (len(variance) * (variance + EPS * average))
        return cls(weights.float(), int((variance == 0).sum()))


def errors_of_images(
    student: torch.Tensor, teacher: torch.Tensor, valid: torch.Tensor, scale: ChannelScale
) -> torch.Tensor:
    """The ratio of each image (B,) from features (B, g, g, C) where `valid` (B, g, g)."""
    errors = (student - teacher).square() @ scale.weights  # (B, g, g)
    cells = valid.to(errors.dtype)
    return (errors * cells).sum(dim=(1, 2)) / cells.sum(dim=(1, 2))


def _sums(values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Sums over images and positions, image by image in float64: (C,)."""
    total = torch.zeros(values.shape[-1], dtype=torch.float64)
    for image, cells in zip(values, valid, strict=True):
        total += image[cells].double().sum(dim=0)
    return total
