"""A data set of another domain, drawn by arithmetic: five shapes in images of odd sizes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = ("disk", "square", "bar", "ring", "cross")
SIZES = ((61, 97), (113, 45), (40, 200), (77, 77), (30, 31))


def draw_shapes(seed: int, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """An image (H, W, 3) and its classes (H, W): 0, 1 to 5, and 255 along the top row."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(float)
    labels = np.zeros((height, width), np.uint8)
    radius = min(height, width) / 7
    for label in rng.permutation(len(CLASSES)) + 1:
        cy, cx = rng.uniform(radius, height - radius), rng.uniform(radius, width - radius)
        dy, dx = y - cy, x - cx
        distance = np.hypot(dy, dx)
        inside = (
            distance < radius,
            np.maximum(abs(dy), abs(dx)) < radius,
            (abs(dy) < radius / 3) & (abs(dx) < radius * 1.5),
            (distance > radius / 2) & (distance < radius),
            (np.minimum(abs(dy), abs(dx)) < radius / 4) & (np.maximum(abs(dy), abs(dx)) < radius),
        )[label - 1]
        labels[inside] = label
    labels[0] = 255
    colors = rng.integers(60, 256, (256, 3))
    colors[0] = 20
    image = colors[labels] + rng.normal(0, 8, (height, width, 3))
    return np.clip(image, 0, 255).astype(np.uint8), labels


def write_shapes(folder: Path, n: int = 5) -> Path:
    """Write n images with label maps and the class names; returns the folder."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number in range(n):
        image, labels = draw_shapes(number, *SIZES[number % len(SIZES)])
        picture = Image.fromarray(image) if number % 2 else Image.fromarray(image).convert("L")
        picture.save(folder / "images" / f"{number}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{number}.png")
    (folder / "classes.json").write_text(json.dumps(CLASSES))
    return folder
