"""How well a SAM segments after it was fine-tuned with an adapter: found by doing it.

For spaces whose genes say which adapter (`search_spaces.sam_adapters`). Every design is fine-tuned
by the same short recipe on the train split and scored on images of val; the test split is not read.
That takes minutes a design, so each has a folder, is trained once, and goes on where it was
stopped. Short trainings rank adapters, long ones may rank them otherwise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import CostBatch, CostContext, Direction
from hwnas.errors import CostError
from hwnas.space import Arch, Archs
from hwnas.workload.adapter_choice import AdapterChoice
from hwnas.workload.sam import GEOMETRIES

__all__ = ["FinetunedIou"]

Float = NDArray[np.float64]
_PROMPTS = ("box", "point")


class FinetunedIou:
    """Mean IoU on val after some steps of training, each design in `FOLDER/ID-RECIPE`.

    Args:
        context: Its space chooses adapters; its data have a train and a val split.
        steps: Updates of each training.
        resolution: Side of the input in pixels; that of the space by default.
        prompt: `box` or `point`; both are trained with.
        max_images: Images of val.
        max_prompts: Objects of each at most.
        base: What is fine-tuned: a shipped name or a checkpoint; by default the space's model.
        bits: Bits of weights and inputs of the adapted layers, 32 for floating point. The other
            layers stay in floating point, so placements compare at 32 alone.
        folder: Where the trainings are kept.

    Raises:
        CostError: the space does not choose adapters, there are no data, or an option makes no
            sense.
    """

    name = "finetuned_iou"
    unit = "IoU"
    direction: Direction = "max"
    needs = ("data",)

    def __init__(  # noqa: PLR0913 - the options of a training
        self, context: CostContext, *, steps: int = 100, resolution: int | None = None,
        prompt: str = "point", max_images: int = 12, max_prompts: int = 8, base: str | None = None,
        bits: int = 32, folder: str = "finetuned",
    ) -> None:  # fmt: skip
        facts = context.space.extras.get("adapters")
        if not facts:
            raise CostError(
                f"{self.name}: the space {context.space.name} does not choose adapters; use it on "
                "sam-vit-t-adapters or a space of search_spaces.sam_adapters"
            )
        if context.data_source is None:
            raise CostError(
                f"{self.name} trains, and one embedded picture is too little for that; give a "
                "folder with train and val by --data DIR"
            )
        if prompt not in _PROMPTS or min(steps, max_images, max_prompts) < 1:
            raise CostError(
                f"{self.name}: prompt {prompt!r}, steps {steps}, max_images {max_images}, "
                f"max_prompts {max_prompts}; expected box or point, and 1 or more of each"
            )
        self._space, self._seed, self._prompt = context.space, context.seed, prompt
        self._data, self._folder = context.data_source, Path(folder)
        self._geometry = GEOMETRIES[facts["geometry"]]
        validation = {"final_images": max_images, "final_prompts": max_prompts, "every": steps}
        self._recipe: dict[str, Any] = {
            "base": base or facts["geometry"], "steps": steps, "validation": validation,
            "resolution": resolution or int(facts["resolution"]),
        }  # fmt: skip
        if bits != 32:
            self._recipe["quantizer"] = {"w_bits": bits, "a_bits": bits}
        text = json.dumps([self._recipe, str(self._data), self._seed], sort_keys=True)
        self._digest = hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def note(self) -> str:
        """What belongs to the number."""
        return f"{self._prompt} prompts on val after {self._recipe['steps']} steps"

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        """Return the IoU of each, shape (n,); what is not trained yet is trained now."""
        found = [self._trained(arch) for arch in Archs.of(self._space, archs)]
        return np.array(found, dtype=np.float64)

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        """Return the same values, as measured."""
        version = f"finetuned_iou-1 {self._prompt} {self._digest}"
        scores = [(float(value), None) for value in self.evaluate(archs)]
        return CostBatch.of_means(
            scores, fidelity="measured", unit=self.unit, model_version=version
        )

    def _trained(self, arch: Arch) -> float:
        from hwnas.config.finetuning import changed_finetuning
        from hwnas.workflows.finetune import finetune

        choice = AdapterChoice.of(arch.genes)
        adapter = {
            "kind": choice.kind, "options": choice.options(self._geometry),
            "targets": choice.targets,
        }  # fmt: skip
        recipe = changed_finetuning({**self._recipe, "adapter": adapter}, {}, source=self.name)
        out = self._folder / f"{arch.id}-{self._digest}"
        facts = finetune(recipe, data=self._data, out=out, seed=self._seed, resume=out.exists())
        return float(facts["iou"]["after"][self._prompt])
