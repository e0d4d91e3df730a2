"""Image and mask files of every usual kind as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from hwnas.errors import DataError

__all__ = ["LOSSY", "MIN_SIDE", "SUFFIXES", "by_stem", "image_size", "read_image", "read_marks"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
LOSSY = (".jpg", ".jpeg")
MIN_SIDE = 8  # pixels; half a patch, below which there is nothing to segment
_BROKEN = (
    UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError,
)  # fmt: skip


def by_stem(folder: Path, problems: list[str]) -> dict[str, Path]:
    """Image files of a folder by stem, sorted; two files of one stem are a problem."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES:
            continue
        if path.stem in found:
            problems.append(
                f"  {folder.name}/: {found[path.stem].name} and {path.name} have the same stem"
            )
        found[path.stem] = path
    return found


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image as RGB (H, W, 3) uint8.

    Gray, palette and CMYK become RGB, an alpha channel is dropped, 16-bit and float values are
    stretched from their own smallest and largest to 0..255.

    Raises:
        DataError: unreadable, truncated, or a side below 8 pixels.
    """
    rgb = _to_rgb(_read(path, convert=("P", "RGBA", "LA", "PA", "CMYK", "YCbCr", "LAB", "HSV")))
    if min(rgb.shape[:2]) < MIN_SIDE:
        raise DataError(
            f"{path}: {rgb.shape[1]}x{rgb.shape[0]} pixels; expected at least {MIN_SIDE} on each "
            "side, remove the image"
        )
    return rgb


def read_marks(path: Path, *, binary: bool) -> NDArray[np.int64]:
    """The values of a mask file (H, W): ids, classes, or 0 and 1 where it is `binary`.

    Palette images give their indexes. A gray mask that was stored as RGB counts as gray. In a
    binary JPEG values above 127 are foreground, for its compression leaves traces.

    Raises:
        DataError: unreadable, several channels, or a JPEG of ids or classes.
    """
    lossy = path.suffix.lower() in LOSSY
    if lossy and not binary:
        raise DataError(
            f"{path}: JPEG changes pixel values, so ids and classes cannot be stored in it; "
            "store them as PNG or TIFF"
        )
    marks = _read(path, convert=())
    if marks.ndim == 3:
        color = marks[..., :3] if marks.shape[2] >= 3 else marks[..., :1]
        if (color != color[..., :1]).any():
            raise DataError(
                f"{path}: {marks.shape} is a color image; expected one channel of object ids, "
                "classes or 0 and foreground"
            )
        marks = color[..., 0]
    if marks.ndim != 2:
        raise DataError(f"{path}: {marks.shape} is not one image; expected (height, width)")
    values: NDArray[np.int64] = marks.astype(np.int64)
    return (values > (127 if lossy else 0)).astype(np.int64) if binary else values


def image_size(path: Path) -> tuple[int, int]:
    """Height and width from the file's head, without decoding the pixels.

    Raises:
        DataError: unreadable.
    """
    try:
        with Image.open(path) as file:
            return file.height, file.width
    except _BROKEN as error:
        raise _unreadable(path, error) from error


def _read(path: Path, *, convert: tuple[str, ...]) -> NDArray[Any]:
    try:
        with Image.open(path) as file:
            return np.asarray(file.convert("RGB") if file.mode in convert else file)
    except _BROKEN as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path}: cannot be read as an image ({error}); expected a whole file of "
        f"{', '.join(SUFFIXES)}"
    )


def _to_rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype == np.bool_:
        image = image.astype(np.uint8) * 255
    if image.dtype != np.uint8:
        wide = image.astype(np.float64)
        low, high = float(wide.min()), float(wide.max())
        image = ((wide - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
    rgb = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image[..., :3]
    return np.asarray(rgb, dtype=np.uint8)
