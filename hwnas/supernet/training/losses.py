"""SAM's loss: 20 focal + 1 dice + 1 squared error of the predicted IoU."""

from __future__ import annotations

import torch
from torch.nn import functional

__all__ = ["embedding_loss", "mask_losses"]


def mask_losses(
    logits: torch.Tensor, iou: torch.Tensor, targets: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Losses of masks (n, s, s) and predicted IoU (n,) against 0/1 `targets` (n, T, T).

    Logits are resized to T first. The focal term (gamma 2, no alpha) is summed over pixels and
    divided by four times the object's pixels, at least T*T/100, instead of by all pixels: nuclei
    cover a thousandth of an image, and a mean over the image would make the term vanish. With
    an object that covers a quarter of the image both are the same.
    """
    side = targets.shape[-1]
    logits = functional.interpolate(
        logits[:, None], (side, side), mode="bilinear", align_corners=False
    )[:, 0].flatten(1)
    truth = targets.flatten(1)
    area = truth.sum(1)
    chance = logits.sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    miss = chance + truth - 2 * chance * truth  # 1 - p of the right class
    focal = (entropy * miss**2).sum(1) / (4 * area).clamp(min=side * side / 100)
    dice = 1 - (2 * (chance * truth).sum(1) + 1) / (chance.sum(1) + area + 1)
    with torch.no_grad():
        mask = (logits > 0).float()
        both = (mask * truth).sum(1)
        actual = both / (mask.sum(1) + area - both).clamp(min=1)
    quality = functional.mse_loss(iou, actual)
    return {
        "loss": 20 * focal.mean() + dice.mean() + quality,
        "focal": focal.mean(),
        "dice": dice.mean(),
        "iou": actual.mean(),
    }


def embedding_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Squared error of two embeddings (B, 256, g, g), divided by the teacher's variance."""
    return functional.mse_loss(student, teacher) / teacher.var()
