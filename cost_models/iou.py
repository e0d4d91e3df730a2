"""How well a subnet's masks agree with annotated objects.

The subnet embeds an image once; the supernet's own prompt encoder and mask decoder, in full
precision, turn one prompt for each object into one mask; IoU is taken at the original size. A box
prompt is tight around the object, a point prompt is its center-most pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import CostBatch, CostContext, Direction
from hwnas.cost.embedding import require_embedding
from hwnas.data.scores import mean_of_images
from hwnas.errors import CostError
from hwnas.space import Arch, Archs
from hwnas.supernet.evaluation import Evaluator, PromptKind

__all__ = ["Iou"]

Float = NDArray[np.float64]
_PROMPTS = ("box", "point")


class Iou:
    """Mean IoU over the objects of the context's images.

    Of each image at most `max_prompts` objects are prompted, drawn once from the context's seed
    and the same for every arch; of the data, the first `max_images`. Several images: the mean of
    their means. The interval is one standard error to either side, over images, or over the
    objects of a single one; it is not a confidence limit for other images.

    Raises:
        CostError: an option makes no sense, or the context has no supernet or no data.
    """

    name = "iou"
    unit = "IoU"
    direction: Direction = "max"
    needs = ("supernet", "data")

    def __init__(
        self, context: CostContext, *, prompt: PromptKind = "box", max_prompts: int = 32,
        max_images: int = 16,
    ) -> None:  # fmt: skip
        problems = [] if prompt in _PROMPTS else [f"prompt is {prompt!r}, expected box or point"]
        limits = {"max_prompts": max_prompts, "max_images": max_images}
        problems += [f"{k} is {v}, expected 1 or more" for k, v in limits.items() if v < 1]
        if problems:
            raise CostError(f"{self.name}: " + "; ".join(problems))
        self._context, self._prompt = context, prompt
        self._max_prompts, self._max_images = max_prompts, max_images
        self._evaluator: Evaluator | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_evaluator": None}  # a worker prepares its own

    @property
    def note(self) -> str:
        """What belongs to the number."""
        return f"{self._prompt} prompts, at most {self._max_images} images"

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        """Return the mean IoU of each arch, shape (n,)."""
        return self.estimate(archs).value

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        """Return the means with one standard error to either side."""
        scores = [self._score(arch) for arch in Archs.of(self._context.space, archs)]
        return CostBatch.of_means(
            scores,
            fidelity="measured",
            unit=self.unit,
            model_version=f"iou-1 {self._prompt} prompts={self._max_prompts} "
            f"images={self._max_images} seed={self._context.seed}",
        )

    def _score(self, arch: Arch) -> tuple[float, float | None]:
        supernet = require_embedding(self._context, by=self.name)
        if self._evaluator is None:
            images = self._context.require("data", by=self.name)
            self._evaluator = Evaluator.of(
                supernet.sam,
                images[: self._max_images],
                prompts=[self._prompt],
                max_instances=self._max_prompts,
                seed=self._context.seed,
            )
        embed = partial(supernet.embed, arch=arch)
        of_images = self._evaluator.score(embed, supernet.resolution(arch))[self._prompt]
        return mean_of_images([scores.iou for scores in of_images])
