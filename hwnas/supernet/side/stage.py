"""The training of a side network, as one stage of the common loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwnas.config.training import BatchConfig
from hwnas.data.labeled import LabeledImage
from hwnas.supernet.side.features import Backbone
from hwnas.supernet.side.student import SideStudent
from hwnas.supernet.training.elastic.tasks import Task
from hwnas.supernet.training.precision import Precision, autocast
from hwnas.supernet.training.stage import Figures, ParameterGroup, Share, Stage

__all__ = ["SideTraining", "side_stage"]


@dataclass(frozen=True, slots=True)
class SideTraining:
    """How a side network is trained.

    The papers' rates are for classifiers; these are ours for SAM: AdamW, `decoder_rate` for the
    mask decoder where it is trained. Gates do not decay.
    """

    steps: int
    rate: float = 1e-3
    decoder_rate: float = 2e-4
    weight_decay: float = 1e-4
    warmup: float = 0.02
    ema: float = 0.99
    clip: float = 1.0
    precision: Precision = "fp32"
    validate_every: int = 100
    minutes: float | None = None


def side_stage(  # noqa: PLR0913 - one argument for each thing that a stage is made of
    student: SideStudent,
    task: Task[Any],
    images: Sequence[LabeledImage],
    size: BatchConfig,
    training: SideTraining,
    validate: Callable[[], Mapping[str, float]],
    *,
    frames: int = 1,
    backbones: Sequence[Backbone] = (),
    name: str = "side",
    number: int = 1,
) -> Stage:
    """Train `student` on batches that `task` draws from `images`, each of `size`.

    With `frames` the task is a `ClipTask` of as many. With `backbones`, subnets of the resolution
    of `size`, each step draws one of them to read instead of the student's own; FiLM then tells
    the network of which bits its features are. `validate` judges the student as it is, say
    `Judge` of the fine-tuning or an `Evaluator`, on `student.embed`.
    """
    device = next(student.parameters()).device

    def accumulate(rng: np.random.Generator, share: Share) -> Figures:
        batch = task.batch(images, size, rng, share.rows(size.images)).to(device)
        picked = int(rng.integers(len(backbones))) if backbones else None
        place = nullcontext() if picked is None else student.beside(backbones[picked])
        with place, autocast(device, training.precision):
            embedding = student.embed(batch.images, frames=frames)
            prediction = task.predict(student.sam, embedding, batch)
        losses = task.loss(prediction, batch)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        return {k: v.detach() for k, v in losses.items()}

    return Stage(
        name, number, student, _groups(student, training), training.steps, accumulate, validate,
        warmup=training.warmup, ema=training.ema, clip=training.clip, minutes=training.minutes,
        validate_every=training.validate_every,
    )  # fmt: skip


def _groups(student: SideStudent, training: SideTraining) -> list[ParameterGroup]:
    return [
        ParameterGroup(
            name, parameters,
            training.decoder_rate if name == "decoder" else training.rate,
            0.0 if name == "gate" else training.weight_decay,
        )
        for name, parameters in student.groups().items()
    ]  # fmt: skip
