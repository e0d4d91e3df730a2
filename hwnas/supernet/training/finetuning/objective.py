"""One step of a fine-tuning: a batch, its losses, their gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from hwnas.adapters import WeightAdapter
from hwnas.config.finetuning import FinetuneConfig
from hwnas.config.training import BatchConfig, TrainConfig
from hwnas.data.folder import LabeledImage
from hwnas.supernet.training.batches import Batch
from hwnas.supernet.training.distributed import World
from hwnas.supernet.training.elastic.tasks import PromptTask
from hwnas.supernet.training.finetuning.freezing import RowFreeze
from hwnas.supernet.training.finetuning.relaxation import Clock, Relaxation
from hwnas.supernet.training.finetuning.student import Embedder, settle
from hwnas.supernet.training.losses import embedding_loss
from hwnas.supernet.training.precision import autocast
from hwnas.supernet.training.stage import Share

__all__ = ["FinetuneStep", "Objective", "Teacher", "held_out"]

Figures = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """A model in floating point to learn from: what embeds, and the `sam` that decodes."""

    sam: Any
    embed: Callable[[torch.Tensor], torch.Tensor]


def held_out(
    images: Sequence[LabeledImage], share: float, *, seed: int
) -> tuple[list[LabeledImage], list[LabeledImage]]:
    """The training images for weights and those for the architecture; all for both at 0."""
    if not share or len(images) < 2:
        both = list(images)
        return both, both
    order = np.random.default_rng(seed).permutation(len(images))
    chosen = set(order[: min(max(1, round(share * len(images))), len(images) - 1)].tolist())
    return (
        [image for i, image in enumerate(images) if i not in chosen],
        [image for i, image in enumerate(images) if i in chosen],
    )


class Objective:
    """Batches at one resolution, and their losses: annotation, teacher, what adapters add.

    With a teacher, the divergence of the masks and the squared error of the embedding are those of
    the supernet's training (`losses.py`), in place of a Bernoulli divergence of all pixels alike.
    """

    def __init__(
        self,
        student: Embedder,
        config: FinetuneConfig,
        resolution: int,
        *,
        teacher: Teacher | None = None,
    ) -> None:
        self._student, self._config, self._teacher = student, config, teacher
        self._device = next(student.module.parameters()).device
        self._size = BatchConfig(
            resolution=resolution, share=1, images=config.images, prompts=config.prompts
        )
        self._task = PromptTask(
            TrainConfig(
                batches=(self._size,), crop=config.crop, recolor=config.recolor,
                min_pixels=config.min_pixels, box_jitter=config.box_jitter,
            )
        )  # fmt: skip

    def batch(
        self, images: Sequence[LabeledImage], rng: np.random.Generator, share: Share
    ) -> Batch:
        """Draw the rows of a share of a batch."""
        rows = share.rows(self._size.images)
        return self._task.batch(images, self._size, rng, rows).to(self._device)

    def losses(self, batch: Batch) -> Figures:
        """`loss`, the weighted sum, and what it is made of."""
        config, sam = self._config, self._student.sam
        with autocast(self._device, config.precision):
            embedding = self._student.embed(batch.images)
            prediction = self._task.predict(sam, embedding, batch)
        found = self._task.loss(prediction, batch)
        total = config.task * found["loss"]
        figures = {"iou": found["iou"], "task_loss": found["loss"]}
        if self._teacher is not None:
            with torch.no_grad(), autocast(self._device, config.precision):
                goal = self._teacher.embed(batch.images)
                taught = self._task.predict(self._teacher.sam, goal, batch)
            figures["mask_loss"] = self._task.distil(prediction, taught)
            figures["embedding_loss"] = embedding_loss(embedding.float(), goal.float())
            total = total + config.distil.mask * figures["mask_loss"]
            total = total + config.distil.embedding * figures["embedding_loss"]
        own = [adapter.auxiliary_loss() for adapter in self._student.adapters]
        added = [loss for loss in own if loss is not None]
        if added:
            figures["auxiliary_loss"] = torch.stack([loss.float() for loss in added]).sum()
            total = total + figures["auxiliary_loss"]
        return {"loss": total, **figures}


@dataclass(slots=True, eq=False)
class FinetuneStep:
    """What a stage calls for each step; everything that it remembers is in buffers.

    `weights` are the parameters of the stage's groups, `images` those that train weights and those
    that train the architecture, where there is one. Adapters that can `harden()` (gates, from soft
    to 0 or 1) do so after the share `harden` of the steps.
    """

    objective: Objective
    images: tuple[Sequence[LabeledImage], Sequence[LabeledImage]]
    weights: Sequence[nn.Parameter]
    clock: Clock
    freeze: RowFreeze
    relaxation: Relaxation | None = None
    world: World = field(default_factory=World)
    adapters: Sequence[WeightAdapter] = ()
    harden: float = 0.0
    fresh: bool = True

    def __call__(self, rng: np.random.Generator, share: Share) -> Figures:
        """Add the gradients of one step, of the share of its batch, and return figures."""
        if self.fresh:  # a checkpoint may have been read since adapters were made
            settle(self.adapters)
            self.fresh = False
        done = self.clock.done
        self.clock.tick()
        if done >= self.harden:
            for harden in (getattr(adapter, "harden", None) for adapter in self.adapters):
                if harden is not None:
                    harden()
        self.freeze.advance(done)
        device = self.world.device
        cards = [device.index or 0] if device.type == "cuda" else []
        # adapters may draw noise; it shall depend on the step alone
        with torch.random.fork_rng(devices=cards):
            torch.manual_seed(int(rng.integers(2**62)))
            images = self._architecture(done, rng, share)
            losses = self.objective.losses(self.objective.batch(images, rng, share))
            losses["loss"].backward()  # type: ignore[no-untyped-call]
        return {name: value.detach() for name, value in losses.items()}

    def _architecture(
        self, done: float, rng: np.random.Generator, share: Share
    ) -> Sequence[LabeledImage]:
        """Train the architecture if it is its turn; returns the images for the weights."""
        own, others = self.images
        if self.relaxation is None:
            return own
        relaxation = self.relaxation
        relaxation.restore()
        relaxation.anneal(done)
        phase = relaxation.phase(done)
        if phase == "alternate":
            batch = self.objective.batch(others, rng, share)
            relaxation.step(lambda: self.objective.losses(batch)["loss"], self.weights, self.world)
        relaxation.rest()
        if phase == "frozen" and others is not own:
            return [*own, *others]
        return own
