"""How a phase is judged: named subnets on a few images, and what quantization does."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from hwnas.config.training import TrainConfig
from hwnas.data.folder import LabeledImage
from hwnas.supernet.evaluation import PROMPT_KINDS, evaluate_images
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.semantic import SemanticEvaluator
from hwnas.supernet.training.elastic.guards import CodeWatch, clipped_shares
from hwnas.supernet.training.elastic.phases import Phase
from hwnas.supernet.training.sampling import SubnetSampler
from hwnas.workload.sam_plan import EncoderPlan

__all__ = ["Validation"]


class Validation:
    """Figures of the supernet as it is: `val.PROMPT.BITS` IoU and `clipped.BITS`, `flipped.BITS`.

    PROMPT is box and point, or none for the semantic task, whose figure is the mIoU.
    `float` is the largest network in floating point; numbers are the largest with uniform bits;
    `small` the smallest at the lowest open bit-width. Objects are capped, so figures are for the
    curve, not for a results page.
    """

    def __init__(
        self, supernet: SamSupernet, sampler: SubnetSampler | None, phase: Phase,
        config: TrainConfig, images: Sequence[LabeledImage],
    ) -> None:  # fmt: skip
        self._supernet, self._phase, self._config = supernet, phase, config
        self._images = images
        side = config.validation.resolution or max(b.resolution for b in config.batches)
        self._plans = _plans(supernet, sampler, phase, side)
        self._watch = CodeWatch(supernet.encoder)
        self._semantic = None
        if config.task == "semantic":
            self._semantic = SemanticEvaluator(supernet.sam, images)

    def __call__(self) -> dict[str, float]:
        self._supernet.encoder.forget()
        figures = {}
        for label, plan in self._plans.items():
            for prompt, iou in self._judge(plan).items():
                figures[f"val.{prompt}.{label}"] = round(iou, 4)
        bits = self._phase.bits
        clipped, flipped = clipped_shares(self._supernet.encoder, bits), self._watch.flipped(bits)
        figures |= {f"clipped.{b}": round(share, 4) for b, share in clipped.items()}
        figures |= {f"flipped.{b}": round(share, 4) for b, share in flipped.items()}
        self._supernet.encoder.forget()
        return figures

    def _judge(self, plan: EncoderPlan) -> dict[str, float]:
        embed = partial(self._supernet.embed, arch=plan)
        if self._semantic is not None:
            return {"none": self._semantic.score(embed, plan.resolution).miou}
        figures: dict[str, float] = {}
        for prompt in PROMPT_KINDS:
            scores = evaluate_images(
                self._supernet.sam,
                self._images,
                resolution=plan.resolution,
                prompt=prompt,
                embed=embed,
                max_instances=self._config.validation.prompts,
            )
            figures[prompt] = float(np.mean([score.mean() for score in scores if len(score)]))
        return figures


def _plans(
    supernet: SamSupernet, sampler: SubnetSampler | None, phase: Phase, side: int
) -> dict[str, EncoderPlan]:
    plans = {"float": EncoderPlan.uniform(supernet.geometry, resolution=side)}
    if sampler is None:
        return plans
    open_sides = next((g.options for g in sampler.space.genes if g.role == "resolution"), (side,))
    at = side if side in open_sides else int(open_sides[-1])
    for bits in phase.bits:
        plans[str(bits)] = supernet.plan(sampler.largest(bits, resolution=at)[0])
    plans["small"] = supernet.plan(sampler.smallest(min(phase.bits), resolution=at)[0])
    return plans
