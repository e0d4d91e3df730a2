"""A folder of drawn disks and a tiny checkpoint, for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwnas.supernet.checkpoint import save_weights
from hwnas.workload.sam_geometry import GEOMETRIES
from tests.supernet.elastic_models import TINY, random_sam
from tests.supernet.training.elastic_material import disks

KINDS = ("light", "dark")
SPLITS = ("train", "train", "train", "train", "val", "val", "test")
SMALL = {
    "resolution": 64, "steps": 3, "prompts": 2, "rates.weights": 0.01, "rates.decoder": 0.01,
    "validation.images": 1, "validation.prompts": 2, "validation.every": 2,
}  # fmt: skip


def write_disks(folder: Path) -> Path:
    """Images, ids and a split.csv; kinds take turns."""
    for name in ("images", "instances"):
        (folder / name).mkdir(parents=True)
    lines = ["name,split,kind"]
    for number, (image, split) in enumerate(zip(disks(len(SPLITS)), SPLITS, strict=True)):
        Image.fromarray(image.image).save(folder / "images" / f"{image.name}.png")
        ids = Image.fromarray(image.instances.astype(np.uint16))
        ids.save(folder / "instances" / f"{image.name}.png")
        lines.append(f"{image.name},{split},{KINDS[number % 2]}")
    (folder / "split.csv").write_text("\n".join(lines) + "\n")
    return folder


def write_tiny(path: Path, patch: pytest.MonkeyPatch, seed: int = 0) -> Path:
    """A checkpoint of the tiny geometry, which is known while `patch` lasts."""
    patch.setitem(GEOMETRIES, "tiny", TINY)
    weights = random_sam(seed=seed).state_dict()
    return save_weights(path, weights, metadata={"geometry": "tiny"})
