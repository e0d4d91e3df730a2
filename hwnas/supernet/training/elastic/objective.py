"""One training step of a supernet: several subnets on one batch, their gradients added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hwnas.config.training import BatchConfig, TrainConfig
from hwnas.data.folder import LabeledImage
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.training.elastic.phases import TEACHER, Phase
from hwnas.supernet.training.elastic.tasks import Prediction, Task
from hwnas.supernet.training.losses import embedding_loss
from hwnas.supernet.training.precision import autocast
from hwnas.supernet.training.sampling import SubnetSampler
from hwnas.supernet.training.stage import Share
from hwnas.workload.sam_plan import EncoderPlan

__all__ = ["ElasticStep", "Target"]

Figures = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Target:
    """What subnets are distilled from: an embedding (B, 256, g, g) and its prediction."""

    embedding: torch.Tensor
    prediction: Prediction


class ElasticStep:
    """Forward and backward passes of a phase's steps.

    All subnets of a step share one resolution, drawn for the step among those that are open, and so
    the images and the teacher's pass; the sandwich holds at that resolution. Sources: sandwich
    rule and distillation of all but the largest subnet from BigNAS (Yu et al., 2020); the losses'
    weights are ours.
    """

    def __init__(
        self, supernet: SamSupernet, teacher: SamSupernet | None, phase: Phase,
        sampler: SubnetSampler | None, config: TrainConfig, task: Task[Any],
        images: Sequence[LabeledImage], device: torch.device,
    ) -> None:  # fmt: skip
        self._supernet, self._teacher, self._phase = supernet, teacher, phase
        self._sampler, self._config, self._task = sampler, config, task
        self._images, self._device = images, device
        self._batches = _open_batches(config, phase, sampler)

    def __call__(self, rng: np.random.Generator, share: Share) -> Figures:
        """Add the gradients of one step, of the share of its batch, and return figures."""
        shares = np.array([b.share for b in self._batches])
        size = self._batches[rng.choice(len(shares), p=shares / shares.sum())]
        subnets = self._subnets(rng, size.resolution)
        batch = self._task.batch(self._images, size, rng, share.rows(size.images)).to(self._device)
        if self._phase.name == TEACHER:
            return self._teach(batch, subnets[0], size.resolution)
        target = None if self._teacher is None else self._target(self._teacher, batch)
        figures: Figures = {}
        for place, plan in enumerate(subnets):
            role = _role(place)
            embedding, prediction = self._forward(plan, batch)
            losses = self._losses(place, embedding, prediction, batch, target)
            losses["loss"].backward()  # type: ignore[no-untyped-call]
            if target is None:  # in place: the largest subnet of this step
                target = Target(embedding.detach(), prediction.detach())
            figures |= {f"{role}.{k}@{size.resolution}": v.detach() for k, v in losses.items()}
        return figures

    def _losses(
        self, place: int, embedding: torch.Tensor, prediction: Prediction, batch: Any,
        target: Target | None,
    ) -> Figures:  # fmt: skip
        weights, losses = self._config.losses, self._task.loss(prediction, batch)
        found = {"iou": losses["iou"]}
        total = losses["loss"] * (weights.task if place == 0 else weights.task_others)
        if target is not None:
            found["embedding"] = embedding_loss(embedding.float(), target.embedding.float())
            total = total + weights.embedding * found["embedding"]
            if place > 0 and weights.mask:
                found["mask"] = self._task.distil(prediction, target.prediction)
                total = total + weights.mask * found["mask"]
        return {"loss": total, **found}

    def _teach(self, batch: Any, plan: EncoderPlan, resolution: int) -> Figures:
        _, prediction = self._forward(plan, batch)
        losses = self._task.loss(prediction, batch)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        return {f"{name}@{resolution}": losses[name].detach() for name in ("loss", "iou")}

    @torch.no_grad()
    def _target(self, teacher: SamSupernet, batch: Any) -> Target:
        with autocast(self._device, self._config.precision):
            embedding = self._taught(teacher, batch.images)
            return Target(embedding, self._task.predict(teacher.sam, embedding, batch))

    def _taught(self, teacher: SamSupernet, images: torch.Tensor) -> torch.Tensor:
        if not self._config.checkpoint_blocks:
            return teacher.teacher(images).clone()  # a normal tensor, not one of inference
        # Layers for training merge their adapters when they run, one at a time; those for
        # inference are prepared together, which holds the encoder's weights twice.
        plan = EncoderPlan.uniform(teacher.geometry, resolution=images.shape[-1])
        with torch.enable_grad():
            view = teacher.encoder.view(plan)
        embedding: torch.Tensor = view(images)
        return embedding

    def _forward(self, plan: EncoderPlan, batch: Any) -> tuple[torch.Tensor, Prediction]:
        self._supernet.activate(plan)
        with autocast(self._device, self._config.precision):
            embedding: torch.Tensor = self._supernet(batch.images)
            return embedding, self._task.predict(self._supernet.sam, embedding, batch)

    def _subnets(self, rng: np.random.Generator, resolution: int) -> list[EncoderPlan]:
        if self._sampler is None:
            return [EncoderPlan.uniform(self._supernet.geometry, resolution=resolution)]
        archs = self._sampler.sandwich(rng, self._config.random_subnets, resolution=resolution)
        return [self._supernet.plan(arch) for arch in archs]


def _open_batches(
    config: TrainConfig, phase: Phase, sampler: SubnetSampler | None
) -> tuple[BatchConfig, ...]:
    """The batches at resolutions that the phase has open; all where it trains the teacher."""
    if sampler is None or "resolution" in phase.roles:
        return config.batches
    largest = max(b.resolution for b in config.batches)
    return tuple(b for b in config.batches if b.resolution == largest)


def _role(place: int) -> str:
    return ("largest", "smallest")[place] if place < 2 else "random"
