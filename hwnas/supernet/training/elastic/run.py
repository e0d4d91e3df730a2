"""A supernet from base, recipe and data: phase after phase, each resumable."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hwnas.adapters import AdapterBank, block_linears, build_adapters
from hwnas.config.training import AdapterConfig, TrainConfig
from hwnas.data.folder import LabeledImage
from hwnas.data.transforms import preprocess
from hwnas.quant.bits import BITS
from hwnas.space import SearchSpace
from hwnas.supernet.encoder_order import sort_encoder
from hwnas.supernet.importance import measure_importance
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.scale_table import ScaleTable
from hwnas.supernet.training.curves import Tracker
from hwnas.supernet.training.distributed import World
from hwnas.supernet.training.elastic.groups import kind_of, parameter_groups
from hwnas.supernet.training.elastic.objective import ElasticStep
from hwnas.supernet.training.elastic.opening import open_bits
from hwnas.supernet.training.elastic.phases import TEACHER, Phase, phases_of
from hwnas.supernet.training.elastic.semantic_task import task_of
from hwnas.supernet.training.elastic.validation import Validation
from hwnas.supernet.training.loop import Progress, run_stage
from hwnas.supernet.training.sampling import SubnetSampler, opened
from hwnas.supernet.training.stage import Stage
from hwnas.workload.sam_geometry import SamGeometry

__all__ = ["Material", "SupernetRun", "calibration_inputs", "start_supernet"]

_LOG = logging.getLogger(__name__)
_TEACHER_CACHE = 1 << 26  # bytes; merged weights of a large teacher would double its size


@dataclass(frozen=True, slots=True)
class Material:
    """The images of a run: to train on, to calibrate ranges with, and to judge by."""

    train: Sequence[LabeledImage]
    calibration: Sequence[LabeledImage]
    validation: Sequence[LabeledImage]


def start_supernet(
    sam: Any, config: TrainConfig, images: Sequence[torch.Tensor], *, seed: int
) -> SamSupernet:
    """A supernet as it is before training: sorted by importance, with fresh adapters, no scales."""
    supernet = SamSupernet(sam)
    order = measure_importance(supernet.encoder, images)
    sort_encoder(sam.image_encoder, order, sam.geometry)
    adapters = fresh_adapters(sam.geometry, config, seed=seed)
    if adapters is not None:
        adapters.fit({layer: supernet.encoder.weight(layer, 32, 32) for layer in adapters.layers})
    scales = ScaleTable({}, activation=config.activation)
    return SamSupernet(
        sam, scales=scales, order=order, adapters=adapters, checkpoint=config.checkpoint_blocks
    )


def fresh_adapters(geometry: SamGeometry, config: TrainConfig, *, seed: int) -> AdapterBank | None:
    """The adapters of a recipe before training; None where the weights themselves train."""
    adapter = config.adapter
    if adapter.layout == "none":
        return None
    return build_adapters(
        block_linears(geometry),
        rng=torch.Generator().manual_seed(seed),
        kind=adapter.kind,
        layout=adapter.layout,
        bits=[b for b in BITS if b in config.bits],
        targets=adapter.targets,
        **_adapter_options(adapter),
    )


@dataclass(slots=True)
class SupernetRun:
    """Trains the supernet of a recipe in a folder; what is done there is not repeated.

    Phases follow one another (`phases_of`); each begins with the averaged weights of the one
    before, opens its bit-widths (`open_bits`) and is a stage of `run_stage`.
    """

    supernet: SamSupernet
    config: TrainConfig
    space: SearchSpace
    material: Material
    folder: Path
    seed: int = 0
    world: World = field(default_factory=World)
    trackers: Sequence[Tracker] = ()
    progress: Callable[[Progress], None] | None = None
    base_weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def train(self) -> dict[str, dict[str, Any]]:
        """Run all phases; returns the figures of each. The supernet is left trained, in eval."""
        self.supernet.to(self.world.device)
        inputs = calibration_inputs(self.supernet.geometry, self.material.calibration)
        inputs = [image.to(self.world.device) for image in inputs]
        figures, teacher, known = {}, None, set[int]()
        for number, phase in enumerate(phases_of(self.config)):
            if phase.name != TEACHER and teacher is None and self.config.teacher == "frozen":
                teacher = frozen_copy(self.supernet, self.config)
            open_bits(self.supernet, phase, sorted(known), inputs, seed=self.seed)
            known.update(phase.opens)
            stage = self._stage(number, phase, teacher)
            _LOG.info("phase %s: %d steps", phase.name, phase.steps)
            figures[phase.name] = run_stage(
                stage, self.folder, seed=self.seed, world=self.world, trackers=self.trackers,
                progress=self.progress,
            )  # fmt: skip
            self.supernet.encoder.forget()
        self.supernet.requires_grad_(False)
        return figures

    def _stage(self, number: int, phase: Phase, teacher: SamSupernet | None) -> Stage:
        config = self.config
        sampler = None
        if phase.name != TEACHER:
            sampler = SubnetSampler(opened(self.space, phase.roles, phase.bits))
        step = ElasticStep(
            self.supernet, teacher, phase, sampler, config, task_of(config),
            self.material.train, self.world.device,
        )  # fmt: skip
        return Stage(
            phase.name,
            number,
            self.supernet,
            parameter_groups(self.supernet, phase, config),
            phase.steps,
            step,
            Validation(self.supernet, sampler, phase, config, self.material.validation),
            warmup=config.warmup,
            ema=config.ema,
            clip=config.clip,
            validate_every=config.validation.every,
        )


def calibration_inputs(geometry: SamGeometry, images: Sequence[LabeledImage]) -> list[torch.Tensor]:
    """Normalized inputs (3, R, R), each at one resolution of the geometry, in turn."""
    sides = geometry.resolutions
    return [preprocess(image.image, sides[i % len(sides)]) for i, image in enumerate(images)]


def frozen_copy(supernet: SamSupernet, config: TrainConfig) -> SamSupernet:
    """A copy without gradients; parameters that no phase trains are shared with the original."""
    supernet.encoder.forget()
    shared = {id(p): p for n, p in supernet.named_parameters() if kind_of(n, p, config) is None}
    for parameter in shared.values():
        parameter.requires_grad_(False)
    twin = copy.deepcopy(supernet, shared)
    twin.encoder.limit_cache(_TEACHER_CACHE)
    return twin.requires_grad_(False).eval()


def _adapter_options(adapter: AdapterConfig) -> dict[str, Any]:
    own: dict[str, Any] = {"n_low": adapter.n_low, "path_key": adapter.path_key, **adapter.options}
    if adapter.kind == "lora":
        own |= {"rank": adapter.rank, "alpha": adapter.alpha}
    return own
