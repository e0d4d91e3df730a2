"""Find images that show (nearly) the same thing: copies, crops of one another, shifted views."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft

__all__ = ["similarity"]

_STEP = 4  # images are compared at a quarter of their size
_OVERLAP = 0.25  # of the smaller image; with less, chance correlations win


def similarity(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """The largest normalized correlation over all shifts of one gray image over the other.

    Computed on the gradient magnitude at a quarter of the size, so that illumination and
    contrast hardly matter, for shifts where at least a quarter of the smaller image overlaps
    (masked normalized cross-correlation, Padfield 2012). 1 for a copy or a crop; turned,
    flipped or rescaled copies are not found.
    """
    a, b = _edges(first), _edges(second)
    shape = [fft.next_fast_len(n + m) for n, m in zip(a.shape, b.shape, strict=True)]

    def correlate(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        product = fft.rfft2(x, shape) * np.conj(fft.rfft2(y, shape))
        return np.asarray(fft.irfft2(product, shape), dtype=np.float64)

    ones_a, ones_b = np.ones_like(a), np.ones_like(b)
    count = np.maximum(correlate(ones_a, ones_b), 1.0)
    sum_a, sum_b = correlate(a, ones_b), correlate(ones_a, b)
    covariance = correlate(a, b) - sum_a * sum_b / count
    spread_a = correlate(a * a, ones_b) - sum_a**2 / count
    spread_b = correlate(ones_a, b * b) - sum_b**2 / count
    enough = count >= _OVERLAP * min(a.size, b.size)
    floor = 1e-6 * max(float(spread_a.max()), float(spread_b.max()), 1e-12)
    valid = enough & (spread_a > floor) & (spread_b > floor)
    if not valid.any():
        return 0.0
    return float((covariance[valid] / np.sqrt(spread_a[valid] * spread_b[valid])).max())


def _edges(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    height, width = (max(n // _STEP, 2) for n in image.shape[:2])
    gray = Image.fromarray(image).convert("L").resize((width, height), Image.Resampling.BOX)
    rows, columns = np.gradient(np.asarray(gray, dtype=np.float64))
    return np.asarray(np.hypot(rows, columns), dtype=np.float64)
