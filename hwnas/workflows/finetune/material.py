"""The images of a fine-tuning, from a data folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.config.finetuning import FinetuneConfig
from hwnas.data.embedded import EXCLUDED_FROM_TRAINING
from hwnas.data.folder import find_pairs, read_pairs
from hwnas.data.labeled import LabeledImage
from hwnas.errors import DataError

__all__ = ["Material"]


@dataclass(frozen=True, slots=True)
class Material:
    """Images to learn from, some of val for the curve, and those for before and after."""

    train: Sequence[LabeledImage]
    validation: Sequence[LabeledImage]
    final: Sequence[LabeledImage]

    @classmethod
    def read(cls, data: str | Path, config: FinetuneConfig, exclude: Sequence[str]) -> Material:
        """Read the splits train and val; images named in `exclude` are left out of training.

        Raises:
            DataError: the folder cannot be used, or one of the splits is empty.
        """
        left_out = {*EXCLUDED_FROM_TRAINING, *exclude}
        train = read_pairs([p for p in find_pairs(data, split="train") if p.name not in left_out])
        pairs = find_pairs(data, split="val")
        if not pairs or not train:
            raise DataError(
                f"{data}: {len(train)} images to train on and {len(pairs)} in the split val; "
                "expected some of both"
            )
        final = read_pairs(_some(pairs, config.validation.final_images))
        return cls(train, _some(final, config.validation.images), final)

    def calibration(self, count: int, seed: int) -> list[LabeledImage]:
        """Images of the training split to measure ranges with."""
        order = np.random.default_rng(seed).permutation(len(self.train))[:count]
        return [self.train[i] for i in order]


def _some(items: Sequence[Any], count: int | None) -> list[Any]:
    """At most `count` of the items, evenly spread."""
    if count is None or count >= len(items):
        return list(items)
    return list(items[:: len(items) // count][:count])
