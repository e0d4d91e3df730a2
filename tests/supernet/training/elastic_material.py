"""A tiny supernet run on drawn disks, for the tests of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from hwnas.config.training import TrainConfig
from hwnas.data.folder import LabeledImage
from hwnas.data.transforms import preprocess
from hwnas.space import SearchSpace
from hwnas.supernet.training.elastic.run import Material, SupernetRun, start_supernet
from search_spaces.sam import sam_space
from tests.supernet.elastic_models import TINY, random_sam


def disks(n: int, seed: int = 0, side: int = 96) -> list[LabeledImage]:
    """Images of three bright disks each."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    images = []
    for index in range(n):
        ids = np.zeros((side, side), np.int32)
        for i in range(1, 4):
            cy, cx = rng.uniform(16, side - 16, size=2)
            ids[(y - cy) ** 2 + (x - cx) ** 2 < rng.uniform(6, 14) ** 2] = i
        gray = (40 + 150 * (ids > 0) + rng.normal(0, 8, ids.shape)).clip(0, 255)
        rgb = np.repeat(gray.astype(np.uint8)[..., None], 3, axis=2)
        images.append(LabeledImage(f"disks-{index}", rgb, ids))
    return images


def tiny_config(**changes: Any) -> TrainConfig:
    """Few steps of every phase."""
    content: dict[str, Any] = {
        "space": "tiny",
        "adapter": {"rank": 2},
        "bits": [8, 4, 2],
        "steps": {"teacher": 2, "axes": 2, "bits": [2, 2]},
        "batches": [
            {"resolution": 64, "share": 1, "images": 2, "prompts": 2},
            {"resolution": 128, "share": 1, "images": 2, "prompts": 2},
        ],
        "random_subnets": 1,
        "calibration_images": 2,
        "validation": {"every": 100, "images": 1, "prompts": 2},
    }
    return TrainConfig.model_validate(content | changes)


def tiny_space() -> SearchSpace:
    return sam_space(TINY)


def tiny_run(folder: Path, config: TrainConfig, **changes: Any) -> SupernetRun:
    """A run on six images; equal calls are equal runs."""
    images = disks(6)
    material = Material(images[:4], images[4:], images[4:5])
    sides = TINY.resolutions
    inputs = [preprocess(im.image, sides[i]) for i, im in enumerate(images[:2])]
    torch.manual_seed(0)
    supernet = start_supernet(random_sam(), config, inputs, seed=0)
    return SupernetRun(supernet, config, tiny_space(), material, folder, **changes)
