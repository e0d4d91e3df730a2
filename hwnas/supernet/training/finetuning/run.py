"""A fine-tuning from student, recipe and images: one stage, resumable, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from hwnas.adapters import AdaptedLinear
from hwnas.config.finetuning import FinetuneConfig
from hwnas.data.labeled import LabeledImage
from hwnas.supernet.training.curves import Tracker
from hwnas.supernet.training.distributed import World
from hwnas.supernet.training.finetuning.freezing import RowFreeze
from hwnas.supernet.training.finetuning.judging import Judge
from hwnas.supernet.training.finetuning.objective import (
    FinetuneStep,
    Objective,
    Teacher,
    held_out,
)
from hwnas.supernet.training.finetuning.relaxation import Clock, Relaxation
from hwnas.supernet.training.finetuning.student import (
    ARCH,
    Groups,
    Student,
    parameter_groups,
    settle,
)
from hwnas.supernet.training.loop import Progress, run_stage
from hwnas.supernet.training.stage import Stage

__all__ = ["STAGE", "FinetuneRun", "check_run"]

STAGE = "finetune"


@dataclass(slots=True, eq=False)
class FinetuneRun:
    """Trains `student` in `folder`; what is done there is not repeated.

    `train` are the images to learn from, `validation` some of val for the curve. `layers` are those
    whose rows the recipe may freeze.
    """

    student: Student
    config: FinetuneConfig
    resolution: int
    train: Sequence[LabeledImage]
    validation: Sequence[LabeledImage]
    folder: Path
    teacher: Teacher | None = None
    layers: dict[str, AdaptedLinear] = field(default_factory=dict)
    seed: int = 0
    world: World = field(default_factory=World)
    trackers: Sequence[Tracker] = ()
    progress: Callable[[Progress], None] | None = None
    trainable: dict[str, int] = field(default_factory=dict)
    gaps: list[float] = field(default_factory=list)
    unmoved: float | None = None  # share of an adapter's numbers that end as they began
    save_seconds: float = 60.0

    def run(self) -> dict[str, Any]:
        """Train to the end; returns the figures of the stage. The student is left in eval mode.

        Raises:
            Interrupted: Ctrl-C or SIGTERM; a checkpoint is written.
            TrainingError: gradients are not finite.
        """
        student, config = self.student, self.config
        groups = student.groups()
        self.trainable = {name: sum(p.numel() for _, p in g) for name, g in groups.items()}
        begun = _copies(groups) if config.adapts else {}
        arch = [parameter for _, parameter in groups.get(ARCH, ())]
        relaxation = None
        if arch:
            relaxation = Relaxation(arch, student.adapters, config.architecture)
            relaxation.to(self.world.device)
        freeze = check_run(student, config, self.layers)  # its buffers are in the checkpoint
        clock = Clock(config.steps).to(self.world.device)
        stage = self._stage(clock, relaxation, freeze)
        student.module.train()
        figures = run_stage(
            stage, self.folder, seed=self.seed, world=self.world, trackers=self.trackers,
            progress=self._timed(), save_seconds=self.save_seconds,
        )  # fmt: skip
        self.unmoved = _unmoved(begun, _copies(student.groups())) if begun else None
        _settled(student, relaxation, clock)
        student.module.requires_grad_(False).eval()
        return figures

    def seconds_per_step(self, figures: dict[str, Any]) -> float:
        """The median time from step to step; validations, which are rare, do not show.

        A run that was resumed at its end has no steps left: all its time by all its steps then.
        """
        if len(self.gaps) > 1:
            return round(median(self.gaps), 4)
        return round(float(figures["seconds"]) / max(int(figures["steps"]), 1), 4)

    def _stage(self, clock: Clock, relaxation: Relaxation | None, freeze: RowFreeze) -> Stage:
        student, config = self.student, self.config
        own = parameter_groups(student.groups(), config, prefix="student.")
        split = config.architecture.split if relaxation is not None else 0.0
        step = FinetuneStep(
            Objective(student, config, self.resolution, teacher=self.teacher),
            held_out(self.train, split, seed=self.seed),
            [parameter for group in own for _, parameter in group.parameters],
            clock, freeze, relaxation, self.world, student.adapters, config.harden,
        )  # fmt: skip
        judge = Judge(
            student.sam, self.validation, self.resolution, prompts=config.validation.prompts,
            seed=self.seed,
        )  # fmt: skip

        def validate() -> dict[str, float]:
            _settled(student, relaxation, clock)
            return {f"val.{kind}": iou for kind, iou in judge(student.embed).items()}

        module = nn.ModuleDict({"student": student.module, "clock": clock})
        if relaxation is not None:
            module["relaxation"] = relaxation
        return Stage(
            STAGE, 1, module, own, config.steps, step, validate, warmup=config.warmup,
            ema=config.ema, clip=config.clip, validate_every=config.validation.every,
        )  # fmt: skip

    def _timed(self) -> Callable[[Progress], None]:
        last: list[float] = []

        def note(progress: Progress) -> None:
            now = time.monotonic()
            if last:
                self.gaps.append(now - last[0])
            last[:] = [now]
            if self.progress is not None:
                self.progress(progress)

        return note


def _copies(groups: Groups) -> dict[str, torch.Tensor]:
    return {name: p.detach().cpu().clone() for group in groups.values() for name, p in group}


def _unmoved(begun: Mapping[str, torch.Tensor], ended: Mapping[str, torch.Tensor]) -> float:
    """The share of the numbers that training left exactly as they were."""
    same = sum(int((begun[name] == value).sum()) for name, value in ended.items() if name in begun)
    return same / max(1, sum(value.numel() for value in begun.values()))


def check_run(
    student: Student, config: FinetuneConfig, layers: Mapping[str, AdaptedLinear]
) -> RowFreeze:
    """What freezes the rows of a fresh student; finds out what it cannot do, before it trains.

    Raises:
        ConfigError: no layer has the rows to freeze, or an adapter that is to anneal cannot.
    """
    groups = student.groups()
    if groups.get(ARCH) and config.architecture.anneal:
        for adapter in student.adapters:
            tell = getattr(adapter, "anneal", None)
            if tell is not None:
                tell(1.0)
                tell(0.0)
    return RowFreeze(layers, config.freeze, base_trains=config.reference == "full")


def _settled(student: Student, relaxation: Relaxation | None, clock: Clock) -> None:
    """Bring adapters to what their restored parameters and buffers say."""
    if relaxation is not None:
        relaxation.restore()
        relaxation.anneal(clock.done)
    settle(student.adapters)
