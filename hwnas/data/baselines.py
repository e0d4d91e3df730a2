"""Masks from a box without any learning: what a model must beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwnas.data.folder import LabeledImage
from hwnas.data.prompts import Prompts

__all__ = ["BASELINES", "box_masks", "otsu_masks", "otsu_threshold"]


def box_masks(labeled: LabeledImage, prompts: Prompts) -> NDArray[np.bool_]:
    """The whole box as the mask; (n, H, W)."""
    masks = np.zeros((len(prompts.ids), *labeled.instances.shape), dtype=np.bool_)
    for mask, (x0, y0, x1, y1) in zip(masks, prompts.boxes.astype(int), strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


def otsu_masks(labeled: LabeledImage, prompts: Prompts) -> NDArray[np.bool_]:
    """Otsu's threshold of the gray values inside each box; (n, H, W).

    The object is the side of the threshold where the median of the whole image is not: the
    median is taken for the background, so bright and dark objects both work.
    """
    gray = labeled.image.astype(np.float64).mean(axis=2)
    background = float(np.median(gray))
    masks = np.zeros((len(prompts.ids), *gray.shape), dtype=np.bool_)
    for mask, (x0, y0, x1, y1) in zip(masks, prompts.boxes.astype(int), strict=True):
        inside = gray[y0:y1, x0:x1]
        threshold = otsu_threshold(inside)
        bright = inside > threshold
        mask[y0:y1, x0:x1] = bright if background <= threshold else ~bright
    return masks


def otsu_threshold(values: NDArray[np.float64]) -> float:
    """The threshold that maximizes the variance between the two sides (Otsu 1979).

    Exact over the distinct values; equal values give that value.
    """
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) == 1:
        return float(levels[0])
    weight = np.cumsum(counts)[:-1]
    total, rest = counts.sum(), counts.sum() - np.cumsum(counts)[:-1]
    mass = np.cumsum(levels * counts)
    low, high = mass[:-1] / weight, (mass[-1] - mass[:-1]) / rest
    between = weight * rest / total**2 * (high - low) ** 2
    return float(levels[int(np.argmax(between))])


BASELINES = {"threshold in the box (Otsu)": otsu_masks, "the box itself": box_masks}
