"""SAM's way of feeding an image and of reading its masks, at any square resolution."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

__all__ = ["fit_size", "normalize", "postprocess", "preprocess", "resize_ids"]

# ImageNet statistics in 0..255, as in segment_anything's build_sam.py.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


def fit_size(height: int, width: int, resolution: int) -> tuple[int, int]:
    """Height and width after the long side was scaled to `resolution`; at least one pixel."""
    scale = resolution / max(height, width)
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def preprocess(image: NDArray[np.uint8], resolution: int) -> torch.Tensor:
    """Turn an image (H, W, 3) into the network's input (3, R, R).

    The long side becomes R (Pillow's bilinear filter, as `ResizeLongestSide`), values are
    normalized, and zeros fill up the bottom and the right.
    """
    height, width = fit_size(image.shape[0], image.shape[1], resolution)
    resized = image
    if (height, width) != image.shape[:2]:
        pillow = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        resized = np.asarray(pillow)
    # a copy: torch warns about read-only arrays, and Pillow's are
    pixels = normalize(torch.from_numpy(np.array(resized)).permute(2, 0, 1))
    return functional.pad(pixels, (0, resolution - width, 0, resolution - height))


def normalize(pixels: torch.Tensor) -> torch.Tensor:
    """Normalize pixels (..., 3, H, W) of 0..255 by SAM's mean and standard deviation."""
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    return (pixels.float() - mean) / std


def postprocess(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Turn mask logits (n, s, s) with s = R/4 into logits of the original `size` (n, H, W).

    Bilinear to R x R, crop the padding, bilinear to the original size; the mask is where the
    result is above 0.
    """
    resolution = logits.shape[-1] * 4
    height, width = fit_size(*size, resolution)
    full = functional.interpolate(
        logits[:, None], (resolution, resolution), mode="bilinear", align_corners=False
    )[..., :height, :width]
    if (height, width) != tuple(size):
        full = functional.interpolate(full, size, mode="bilinear", align_corners=False)
    return full[:, 0]


def resize_ids(ids: NDArray[np.int32], height: int, width: int) -> NDArray[np.int32]:
    """Resize an id map by nearest neighbor."""
    if ids.shape == (height, width):
        return ids
    pillow = Image.fromarray(ids).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(pillow, dtype=np.int32)
