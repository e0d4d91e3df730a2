"""IoU of a model on annotated images, for boxes and for points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from hwnas.data.labeled import LabeledImage
from hwnas.data.scores import mean_of_images
from hwnas.errors import DataError
from hwnas.supernet.evaluation import PROMPT_KINDS, Evaluator

__all__ = ["Judge"]


class Judge:
    """Scores one model as it is at the call, again and again on the same images and objects.

    Raises:
        DataError: none of the images has an object to prompt.
    """

    def __init__(
        self, sam: Any, images: Sequence[LabeledImage], resolution: int, *,
        prompts: int | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        if not any(image.instances.any() for image in images):
            raise DataError("split val: no image has an object to prompt; mark objects in it")
        self._resolution = resolution
        self._evaluator = Evaluator.of(
            sam, images, prompts=PROMPT_KINDS, max_instances=prompts, seed=seed
        )

    def __call__(self, embed: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, float]:
        """The mean over images of the mean IoU of their objects, by kind of prompt."""
        self._evaluator.forget()  # the decoder may have changed
        found = self._evaluator.score(embed, self._resolution)
        return {
            kind: round(mean_of_images([s.iou for s in scores])[0], 4)
            for kind, scores in found.items()
        }
