"""Micrographs by arithmetic: bright disks on noise, in memory and as a data folder with splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from hwnas.data.labeled import LabeledImage


def dots(seed: int, side: int = 128, most: int = 12) -> LabeledImage:
    """A few disks of 3 to 6 pixels radius, a later one on top of an earlier."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    ids = np.zeros((side, side), dtype=np.int32)
    for number in range(1, int(rng.integers(1, most + 1)) + 1):
        cy, cx = rng.uniform(4, side - 4, 2)
        ids[np.hypot(y - cy, x - cx) < rng.uniform(3, 6)] = number
    pixels = rng.integers(0, 80, (side, side, 3)) + 140 * (ids > 0)[..., None]
    return LabeledImage(f"dots{seed}", pixels.astype(np.uint8), ids)


def dots_folder(folder: Path, *, train: int = 4, val: int = 3, test: int = 1) -> Path:
    """Write images of dots with object ids and a split.csv."""
    for name in ("images", "instances"):
        (folder / name).mkdir(parents=True)
    rows = ["name,split"]
    splits = ["train"] * train + ["val"] * val + ["test"] * test
    for seed, split in enumerate(splits):
        image = dots(seed)
        Image.fromarray(image.image).save(folder / "images" / f"{image.name}.png")
        marks = Image.fromarray(image.instances.astype(np.uint16))
        marks.save(folder / "instances" / f"{image.name}.png")
        rows.append(f"{image.name},{split}")
    (folder / "split.csv").write_text("\n".join(rows) + "\n")
    return folder
