"""Agreement of masks with annotated objects, and means with standard errors over images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hwnas.errors import DataError

__all__ = [
    "border_band",
    "border_width",
    "boundary_iou",
    "iou_of_masks",
    "jackknife_error",
    "mean_of_images",
    "mean_of_objects",
    "mean_with_error",
]

_BAND = 0.02  # of the image's diagonal (HQ-SAM, as Cheng et al. 2021 for large images)


def iou_of_masks(masks: NDArray[np.bool_], truths: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Intersection over union of n pairs of masks (n, H, W); (n,). Two empty masks score 1."""
    both = (masks & truths).sum(axis=(1, 2))
    either = (masks | truths).sum(axis=(1, 2))
    return np.where(either > 0, both / np.maximum(either, 1), 1.0).astype(np.float64)


def border_width(height: int, width: int) -> int:
    """Width of the band of `border_band` in pixels: 2 % of the diagonal, at least 1."""
    return max(1, round(_BAND * float(np.hypot(height, width))))


def border_band(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """The pixels of a mask (H, W) that lie within `width` pixels of its outside, diagonals too.

    What is beyond the array is outside, so an object that the image cuts has a border there.
    """
    inside = mask.astype(np.uint8)
    for axis in (0, 1):
        inside = ndimage.minimum_filter1d(inside, 2 * width + 1, axis, mode="constant", cval=0)
    return np.asarray(mask & (inside == 0), dtype=np.bool_)


def boundary_iou(masks: NDArray[np.bool_], truths: NDArray[np.bool_]) -> NDArray[np.float64]:
    """IoU of the bands along the borders of n pairs of masks (n, H, W); (n,).

    Source: Cheng et al., "Boundary IoU" (CVPR 2021), with HQ-SAM's band of 2 % of the image's
    diagonal. Where an object is narrower than two bands it equals the plain IoU.
    """
    width = border_width(*masks.shape[1:])
    bands = [np.stack([border_band(mask, width) for mask in pile]) if len(pile) else pile
             for pile in (masks, truths)]  # fmt: skip
    return iou_of_masks(bands[0], bands[1])


def mean_with_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean of independent values and its standard error; no error for fewer than two."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return float(array.mean()), None
    return float(array.mean()), float(array.std(ddof=1) / np.sqrt(len(array)))


def mean_of_images(of_images: Sequence[NDArray[np.float64]]) -> tuple[float, float | None]:
    """Mean over images of the mean over their objects, with its standard error over images.

    Images without objects do not count. A single image has the standard error over its objects.

    Raises:
        DataError: no image has an object.
    """
    found = [values for values in of_images if len(values)]
    if not found:
        raise DataError(
            "no image has an object to prompt; give images with objects, or --prompt none"
        )
    if len(found) == 1:
        return mean_with_error(found[0].tolist())
    return mean_with_error([float(values.mean()) for values in found])


def mean_of_objects(of_images: Sequence[NDArray[np.float64]]) -> tuple[float, float | None]:
    """Mean over all objects of all images, with its standard error over images.

    Objects of one image are not independent, so the error is the jackknife that leaves out one
    image at a time.
    """
    sums = np.array([values.sum() for values in of_images])
    counts = np.array([len(values) for values in of_images])

    def without(left_out: NDArray[np.bool_]) -> float:
        return float(sums[~left_out].sum() / counts[~left_out].sum())

    if len(of_images) < 2:
        return float(sums.sum() / counts.sum()), None
    nothing = np.zeros(len(of_images), dtype=np.bool_)
    return without(nothing), jackknife_error(without, len(of_images))


def jackknife_error(figure: Callable[[NDArray[np.bool_]], float], n: int) -> float | None:
    """Standard error of a figure of n independent parts, from leaving out one at a time.

    `figure` takes a mask (n,) of what is left out. None for fewer than two parts.
    """
    if n < 2:
        return None
    left = np.array([figure(row) for row in np.eye(n, dtype=np.bool_)])
    return float(np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum()))
