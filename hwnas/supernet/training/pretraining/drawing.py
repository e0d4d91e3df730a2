"""What a process draws of a step: its rows of the batch, each from a generator of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hwnas.data.views import View
from hwnas.supernet.training.batches import Batch, batch_of
from hwnas.supernet.training.pretraining.recipe import Mix, Recipe, StageRecipe
from hwnas.supernet.training.stage import Share

__all__ = ["Draw"]


class Draw:
    """The mix of a step and the rows of its batch that are this process's.

    `rng` is for what all rows have in common, `rows` are the generators of this process's rows:
    a row is the same whoever draws it.
    """

    def __init__(self, recipe: StageRecipe, rng: np.random.Generator, share: Share) -> None:
        shares = [m.share for m in recipe.mixes]
        self.rng = rng
        self.mix: Mix = recipe.mixes[rng.choice(len(shares), p=shares)]
        self._count = -(-self.mix.images // share.world) * share.world
        self._mine = share.rows(self._count)
        self.rows = rng.spawn(self._count)[self._mine]

    def pick(self, population: int) -> list[int]:
        """Draw a row number below `population` for each row, without repetition where it can be."""
        few = population < self._count
        drawn = self.rng.choice(population, self._count, replace=few)
        return [int(i) for i in drawn[self._mine]]

    def batch(self, views: Sequence[View], recipe: Recipe) -> Batch:
        """The views of this process's rows with prompts."""
        parts = [
            batch_of(
                [view],
                row,
                prompts=self.mix.prompts,
                min_pixels=recipe.min_pixels,
                box_jitter=recipe.box_jitter,
            )
            for view, row in zip(views, self.rows, strict=True)
        ]
        return Batch(
            torch.cat([p.images for p in parts]),
            torch.cat([p.boxes for p in parts]),
            torch.cat([p.points for p in parts]),
            torch.cat([p.targets for p in parts]),
        )
