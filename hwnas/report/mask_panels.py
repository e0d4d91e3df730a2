"""Panels of pixels: an image with its prompts, with masks, or under a heat map.

Everything is drawn at the size of the panel, so that lines are as thick on a large image as on a
small one.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

__all__ = ["FOUND", "TRUTH", "png_bytes", "with_heat", "with_masks", "with_prompts"]

Color = tuple[int, int, int]
TRUTH: Color = (60, 220, 60)
FOUND: Color = (255, 120, 30)
_PROMPT: Color = (86, 180, 233)
_SIDE = 320  # of a panel, in pixels
_SHADES = 256  # of a PNG; by coverage no color is off by more than a few steps of 255


def with_prompts(
    image: NDArray[np.uint8], *, boxes: NDArray[np.float32] | None = None,
    points: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:  # fmt: skip
    """The image (H, W, 3) with boxes (n, 4) and points (n, 2), in its pixels."""
    drawn, scale = Image.fromarray(_fitted(image)), _scale(image)
    pen = ImageDraw.Draw(drawn)
    for x0, y0, x1, y1 in [] if boxes is None else boxes * scale:
        pen.rectangle((x0 - 1, y0 - 1, x1, y1), outline=_PROMPT, width=2)
    for x, y in [] if points is None else (points + 0.5) * scale:
        pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=_PROMPT, outline="white", width=1)
    return np.array(drawn)


def with_masks(
    image: NDArray[np.uint8], masks: NDArray[np.bool_], color: Color
) -> NDArray[np.uint8]:
    """The image (H, W, 3), dimmed, with masks (n, H, W) tinted and their borders drawn."""
    drawn = _fitted(image) * 0.8
    for mask in masks:
        small = _fitted_mask(mask)
        drawn[small] = 0.7 * drawn[small] + 0.3 * np.array(color)
        drawn[small & ~ndimage.binary_erosion(small, iterations=2)] = color
    pixels: NDArray[np.uint8] = drawn.round().astype(np.uint8)
    return pixels


def with_heat(image: NDArray[np.uint8], values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The image (H, W, 3) in gray under a map (H, W), from dark at 0 to light at its largest.

    Colors are matplotlib's `inferno`, whose steps look equal; a map of zeros is dark all over.
    """
    from matplotlib import colormaps

    small = Image.fromarray(values.astype(np.float32)).resize(
        _size(image), Image.Resampling.BILINEAR
    )
    shares = np.asarray(small) / max(float(values.max()), 1e-12)
    colors = colormaps["inferno"](shares.clip(0, 1))[..., :3] * 255
    gray = np.asarray(Image.fromarray(_fitted(image)).convert("L"))[..., None]
    pixels: NDArray[np.uint8] = (0.4 * gray + 0.6 * colors).round().astype(np.uint8)
    return pixels


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG of pixels (h, w, 3), with a palette."""
    stream = io.BytesIO()
    picture = Image.fromarray(pixels).quantize(
        _SHADES, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
    )
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _scale(image: NDArray[np.uint8]) -> float:
    return float(_SIDE / max(image.shape[:2]))


def _size(image: NDArray[np.uint8]) -> tuple[int, int]:
    """Width and height of the panel of an image."""
    height, width = (max(1, round(side * _scale(image))) for side in image.shape[:2])
    return width, height


def _fitted(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    resized = Image.fromarray(image).resize(_size(image), Image.Resampling.BILINEAR)
    return np.array(resized)


def _fitted_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    height, width = mask.shape
    scale = _SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized = Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)
    return np.array(resized, dtype=np.bool_)
