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
from hwnas.data.pairs import Pair
from hwnas.errors import DataError

__all__ = ["Material"]


@dataclass(frozen=True, slots=True)
class Material:
    """Images to learn from, some of val for the curve, and those for before and after.

    `every` are the pairs of the train split of all kinds: grids belong to the base and not to what
    it is adapted to, so that adapters for several kinds fit onto one quantized base.
    """

    train: Sequence[LabeledImage]
    validation: Sequence[LabeledImage]
    final: Sequence[LabeledImage]
    every: Sequence[Pair]

    @classmethod
    def read(cls, data: str | Path, config: FinetuneConfig, exclude: Sequence[str]) -> Material:
        """Read the splits train and val; images named in `exclude` are left out of training.

        Raises:
            DataError: the folder cannot be used, or one of the splits has nothing to use.
        """
        left_out = {*EXCLUDED_FROM_TRAINING, *exclude}
        every = [pair for pair in find_pairs(data, split="train") if pair.name not in left_out]
        pairs = find_pairs(data, split="val")
        train, held_out = (_of_kinds(found, config.kinds) for found in (every, pairs))
        if not held_out or not train:
            there = sorted({pair.kind for pair in (*every, *pairs)} - {""})
            raise DataError(
                f"{data}: {len(train)} images to train on and {len(held_out)} in the split val"
                + (f" of the kinds {', '.join(config.kinds)}" if config.kinds else "")
                + "; expected some of both"
                + (f"; its kinds are {', '.join(there) or 'none'}" if config.kinds else "")
            )
        final = read_pairs(_some(held_out, config.validation.final_images))
        return cls(read_pairs(train), _some(final, config.validation.images), final, every)

    def calibration(self, count: int, seed: int) -> list[LabeledImage]:
        """Images of the training split, of any kind, to measure ranges with."""
        order = np.random.default_rng(seed).permutation(len(self.every))[:count]
        return read_pairs([self.every[i] for i in order])


def _of_kinds(pairs: Sequence[Pair], kinds: Sequence[str] | None) -> list[Pair]:
    return [pair for pair in pairs if kinds is None or pair.kind in kinds]


def _some(items: Sequence[Any], count: int | None) -> list[Any]:
    """At most `count` of the items, evenly spread."""
    if count is None or count >= len(items):
        return list(items)
    return list(items[:: len(items) // count][:count])
