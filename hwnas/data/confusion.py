"""Scores of label maps: per-class IoU from one confusion matrix over all images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.data.labeled import IGNORED
from hwnas.data.scores import jackknife_error

__all__ = ["ClassScores", "class_iou", "class_scores", "confusion"]


@dataclass(frozen=True, slots=True)
class ClassScores:
    """IoU of classes over all pixels of n images.

    `classes` maps each name to IoU and its standard error over images; `background` is the same
    for class 0. `miou` is the mean over the classes that occur in truth or prediction, without
    background.
    """

    miou: float
    error: float | None
    classes: dict[str, tuple[float, float | None]]
    background: tuple[float, float | None]


def confusion(
    predicted: NDArray[np.integer], labels: NDArray[np.uint8], classes: int
) -> NDArray[np.int64]:
    """Pixels by true class (rows) and predicted class (columns), (C + 1, C + 1).

    Both maps are (H, W) with 0 for background; pixels of label 255 do not count.
    """
    n = classes + 1
    counted = labels != IGNORED
    pairs = labels[counted].astype(np.int64) * n + predicted[counted]
    return np.bincount(pairs, minlength=n * n).reshape(n, n)


def class_iou(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU of each class of a confusion matrix (C + 1, C + 1): (C + 1,), NaN where it has none."""
    both = np.diag(matrix).astype(np.float64)
    either = matrix.sum(0) + matrix.sum(1) - both
    iou = np.full(len(both), np.nan, dtype=np.float64)
    np.divide(both, either, out=iou, where=either > 0)
    return iou


def class_scores(matrices: Sequence[NDArray[np.int64]], names: Sequence[str]) -> ClassScores:
    """Scores from the confusion matrices of n images, with jackknife errors over images.

    A class that occurs in no image is absent from the result. One that occurs in a single image
    has no error.
    """
    stack = np.stack(matrices)

    def iou(left_out: NDArray[np.bool_]) -> NDArray[np.float64]:
        return class_iou(stack[~left_out].sum(0))

    def mean(left_out: NDArray[np.bool_]) -> float:
        found = iou(left_out)[1:]
        return float(np.nanmean(found)) if np.isfinite(found).any() else 0.0

    whole = iou(np.zeros(len(stack), dtype=np.bool_))
    count = len(stack)
    scores: list[tuple[float, float | None] | None] = []
    for number, value in enumerate(whole):
        if not np.isfinite(value):
            scores.append(None)
            continue
        seen = (stack[:, number].sum(1) + stack[:, :, number].sum(1)) > 0
        error = jackknife_error(lambda out, k=number: float(iou(out)[k]), count)  # type: ignore[misc]
        scores.append((float(value), error if seen.sum() > 1 else None))
    found = {name: s for name, s in zip(names, scores[1:], strict=True) if s is not None}
    miou = float(np.mean([value for value, _ in found.values()])) if found else 0.0
    return ClassScores(miou, jackknife_error(mean, count), found, scores[0] or (0.0, None))
