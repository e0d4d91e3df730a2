"""Masks of COCO annotations: polygons, run lengths as lists and as compressed strings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError

__all__ = ["decode_counts", "decode_segmentation", "fill_polygon", "unpack_counts"]


def decode_segmentation(segmentation: object, height: int, width: int) -> NDArray[np.bool_]:
    """The mask (H, W) of a COCO `segmentation`.

    Raises:
        DataError: neither a list of polygons nor run lengths of this size.
    """
    if isinstance(segmentation, Mapping):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        if size is not None and tuple(size) != (height, width):
            raise DataError(
                f"run lengths of {size[1]}x{size[0]} pixels, the image has {width}x{height}"
            )
        if isinstance(counts, str | bytes):
            counts = unpack_counts(counts)
        if isinstance(counts, Sequence):
            return decode_counts(counts, height, width)
    elif isinstance(segmentation, Sequence) and not isinstance(segmentation, str):
        mask = np.zeros((height, width), dtype=np.bool_)
        for polygon in segmentation:
            mask |= fill_polygon(polygon, height, width)
        return mask
    raise DataError("segmentation is neither a list of polygons nor an object with counts and size")


def decode_counts(counts: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """Run lengths, of zeros and ones in turn from the top left down the columns, as (H, W).

    Raises:
        DataError: they do not fill the image.
    """
    runs = np.asarray(counts, dtype=np.int64)
    if runs.ndim != 1 or (runs < 0).any() or int(runs.sum()) != height * width:
        raise DataError(
            f"run lengths sum up to {int(runs.sum())}, expected {height * width} for "
            f"{width}x{height} pixels"
        )
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def unpack_counts(text: str | bytes) -> list[int]:
    """Decompress a run-length string.

    Each number is written in groups of 5 bits, low ones first, as characters from `0` (48) on; a
    6th bit says that more follow, and the sign is that of the last group's highest bit. From the
    fourth number on, the difference to the number two before is stored.

    Raises:
        DataError: it ends within a number, or has other characters.
    """
    data = list(text) if isinstance(text, bytes) else [ord(letter) for letter in text]
    counts: list[int] = []
    number = shift = 0
    open_number = False
    for byte in data:
        group = byte - 48
        if not 0 <= group < 64:
            raise DataError(f"run-length string has the character {chr(byte)!r}")
        number |= (group & 31) << shift
        shift += 5
        open_number = bool(group & 32)
        if open_number:
            continue
        if group & 16:
            number -= 1 << shift
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number = shift = 0
    if open_number:
        raise DataError("run-length string ends within a number")
    return counts


def fill_polygon(xy: object, height: int, width: int) -> NDArray[np.bool_]:
    """Pixels (H, W) whose center lies in a polygon x0, y0, x1, y1, …, by the even-odd rule.

    Coordinates are on pixel edges. `pycocotools` traces the border on a grid five times as fine
    instead; the two differ in pixels of the border only.

    Raises:
        DataError: fewer than three corners, or not a flat list of numbers.
    """
    try:
        corners = np.asarray(xy, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError("polygon is not a flat list of numbers") from error
    if corners.ndim != 1 or len(corners) < 6 or len(corners) % 2 or not np.isfinite(corners).all():
        raise DataError("polygon needs an even number of coordinates, 6 or more: x0, y0, x1, y1, …")
    x0, y0 = corners[0::2], corners[1::2]
    x1, y1 = np.roll(x0, -1), np.roll(y0, -1)
    crossings = np.zeros((height, width + 1), dtype=np.int32)
    for ax, ay, bx, by in zip(x0, y0, x1, y1, strict=True):
        low, high = min(ay, by), max(ay, by)
        # rows whose center y + 0.5 has low <= center < high: each corner belongs to one edge
        first = int(np.clip(np.ceil(low - 0.5), 0, height))
        last = int(np.clip(np.ceil(high - 0.5), 0, height))
        if first >= last:
            continue
        rows = np.arange(first, last)
        x = ax + (rows + 0.5 - ay) * (bx - ax) / (by - ay)
        columns = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
        np.add.at(crossings, (rows, columns), 1)
    return np.asarray(crossings.cumsum(axis=1)[:, :width] % 2 == 1)
