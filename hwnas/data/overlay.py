"""Pictures of masks: outlines over the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

__all__ = ["outline", "side_by_side"]


def outline(
    image: NDArray[np.uint8], masks: NDArray[np.bool_], color: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """The image (H, W, 3), a little dimmed, with the inner border of each mask (n, H, W)."""
    drawn = (image * 0.8).astype(np.uint8)
    for mask in masks:
        drawn[mask & ~ndimage.binary_erosion(mask)] = color
    return drawn


def side_by_side(rows: list[list[NDArray[np.uint8]]], *, side: int, gap: int = 4) -> Image.Image:
    """Panels in rows and columns, each scaled to `side` pixels of width; white gaps."""
    scaled = [[_scaled(panel, side) for panel in row] for row in rows]
    height = sum(max(p.height for p in row) for row in scaled) + gap * (len(rows) - 1)
    width = max(len(row) for row in rows) * (side + gap) - gap
    page = Image.new("RGB", (width, height), "white")
    top = 0
    for row in scaled:
        for column, panel in enumerate(row):
            page.paste(panel, (column * (side + gap), top))
        top += max(p.height for p in row) + gap
    return page


def _scaled(panel: NDArray[np.uint8], side: int) -> Image.Image:
    picture = Image.fromarray(panel)
    return picture.resize((side, round(picture.height * side / picture.width)))
