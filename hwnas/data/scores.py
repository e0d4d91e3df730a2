"""Intersection over union of masks, and its mean with a standard error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["iou_of_masks", "mean_with_error"]


def iou_of_masks(masks: NDArray[np.bool_], truths: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Intersection over union of n pairs of masks (n, H, W); (n,). Two empty masks score 1."""
    both = (masks & truths).sum(axis=(1, 2))
    either = (masks | truths).sum(axis=(1, 2))
    return np.where(either > 0, both / np.maximum(either, 1), 1.0).astype(np.float64)


def mean_with_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean of independent values and its standard error; no error for fewer than two."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return float(array.mean()), None
    return float(array.mean()), float(array.std(ddof=1) / np.sqrt(len(array)))
