"""SAM's loss: 20 focal + 1 dice + 1 squared error of the predicted IoU."""

from __future__ import annotations

import torch
from torch.nn import functional

__all__ = [
    "distilled_class_loss",
    "distilled_mask_loss",
    "embedding_loss",
    "mask_losses",
    "semantic_losses",
]


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


def distilled_mask_loss(logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Divergence of masks (n, s, s) from a teacher's of the same shape: cross-entropy plus dice.

    The entropy of the teacher is taken off, so that a perfect student has no loss. Summed and
    divided as the focal term of `mask_losses`, with the teacher's mask as the object.
    """
    chance, truth = logits.sigmoid().flatten(1), teacher.detach().sigmoid().flatten(1)
    cross = functional.binary_cross_entropy_with_logits(logits.flatten(1), truth, reduction="none")
    own = functional.binary_cross_entropy(truth, truth, reduction="none")
    area = truth.sum(1)
    divergence = (cross - own).sum(1) / (4 * area).clamp(min=truth.shape[1] / 100)
    dice = 1 - (2 * (chance * truth).sum(1) + 1) / (chance.square() + truth.square()).sum(1).add(1)
    return divergence.mean() + dice.mean()


def embedding_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Squared error of two embeddings (B, 256, g, g), divided by the teacher's variance."""
    return functional.mse_loss(student, teacher) / teacher.var()


def semantic_losses(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """0.2 cross-entropy + 0.8 dice of class logits (B, C + 1, s, s), as SAMed weighs them.

    `labels` (B, s, s) int64 are 0 for background, 1 to C for classes, 255 for pixels that do not
    count. Dice is the mean over all classes, background too, of the batch's pixels together, so
    that a class that is absent from an image does not make its loss jump.
    """
    counted = labels != 255
    truth = labels.where(counted, torch.zeros_like(labels))
    entropy = functional.cross_entropy(logits, truth, reduction="none")
    entropy = (entropy * counted).sum() / counted.sum().clamp(min=1)
    chance = logits.softmax(1) * counted[:, None]
    target = functional.one_hot(truth, logits.shape[1]).movedim(-1, 1) * counted[:, None]
    both = (chance * target).sum((0, 2, 3))
    dice = 1 - (2 * both + 1) / (chance.sum((0, 2, 3)) + target.sum((0, 2, 3)) + 1)
    return {"loss": 0.2 * entropy + 0.8 * dice.mean(), "entropy": entropy, "dice": dice.mean()}


def distilled_class_loss(logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Divergence (KL) of class logits (B, C + 1, s, s) from a teacher's, the mean of all pixels.

    Padding and pixels that annotators left out count too: the teacher has an opinion on them.
    """
    divergence = functional.kl_div(
        logits.log_softmax(1), teacher.detach().log_softmax(1), reduction="none", log_target=True
    )
    return divergence.sum(1).mean()
