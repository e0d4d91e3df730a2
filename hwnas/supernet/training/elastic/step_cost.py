"""Memory and time of a supernet's training step, measured in this process."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hwnas.config.training import TrainConfig
from hwnas.data.embedded import embedded_image
from hwnas.space import SearchSpace, load_space
from hwnas.supernet.memory import StaticMemory
from hwnas.supernet.random_supernet import rough_scales
from hwnas.supernet.sam_model import build_sam
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.scale_table import ScaleTable
from hwnas.supernet.training.distributed import World
from hwnas.supernet.training.elastic.groups import parameter_groups
from hwnas.supernet.training.elastic.objective import ElasticStep
from hwnas.supernet.training.elastic.phases import AXES, Phase
from hwnas.supernet.training.elastic.run import fresh_adapters, frozen_copy
from hwnas.supernet.training.elastic.tasks import PromptTask
from hwnas.supernet.training.optimizer import Optimizer
from hwnas.supernet.training.peak_memory import peak_rss_bytes
from hwnas.supernet.training.sampling import SubnetSampler, opened
from hwnas.supernet.training.stage import Share, Stage
from hwnas.workload.sam_geometry import GEOMETRIES

__all__ = ["StepCost", "StepSpec", "measure_step"]

_BITS = (8, 4, 3, 2)


@dataclass(frozen=True, slots=True)
class StepSpec:
    """A step: `changes` are keys of the recipe; the largest, smallest and one random subnet."""

    space: str
    changes: dict[str, Any]
    resolution: int
    images: int
    prompts: int
    steps: int
    checkpoint_blocks: bool
    device: str
    threads: int
    seed: int


@dataclass(frozen=True, slots=True)
class StepCost:
    """Trained parameters, bytes by the static model and at the peak, seconds of each step."""

    trained: int
    model_bytes: int
    peak_bytes: float
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds of the step in the middle."""
        return statistics.median(self.seconds)


def measure_step(spec: StepSpec) -> StepCost:
    """Take one step to warm up and `spec.steps` timed ones on the embedded picture.

    Weights are random in the official shapes. Run it in a fresh process: the peak is the process's.
    """
    torch.set_num_threads(spec.threads)
    device = torch.device(spec.device)
    config = _config(spec)
    space = load_space(spec.space)
    torch.manual_seed(spec.seed)
    sam = build_sam(GEOMETRIES[spec.space])
    supernet = SamSupernet(
        sam,
        adapters=fresh_adapters(sam.geometry, config, seed=spec.seed),
        checkpoint=spec.checkpoint_blocks,
    ).to(device)
    teacher = frozen_copy(supernet, config)
    supernet.encoder.scales = ScaleTable(
        rough_scales(supernet.encoder, _BITS), relative=True, activation=config.activation
    ).to(device)
    phase = Phase("bench", spec.steps, (*AXES, "other"), _BITS, _BITS)
    groups = parameter_groups(supernet, phase, config)
    step = ElasticStep(
        supernet, teacher, phase, SubnetSampler(_at(space, spec, phase)), config,
        PromptTask(config), [embedded_image()] * spec.images, device,
    )  # fmt: skip
    stage = Stage("bench", 0, supernet, groups, spec.steps + 1, step, dict)
    static = StaticMemory.of_module(supernet)
    optimizer, seconds = Optimizer(stage, World(device=device)), []
    for number in range(spec.steps + 1):
        begun = time.perf_counter()
        optimizer.clear()
        step(np.random.default_rng([spec.seed, number]), Share())
        optimizer.step(1e-3, number)
        seconds.append(time.perf_counter() - begun)
    trained = sum(p.numel() for g in groups for _, p in g.parameters)
    return StepCost(trained, static.total_bytes, _peak(device), tuple(seconds[1:]))


def _at(space: SearchSpace, spec: StepSpec, phase: Phase) -> SearchSpace:
    sides = [g.name for g in space.genes if g.role == "resolution"]
    return opened(space, phase.roles, phase.bits).restrict({n: [spec.resolution] for n in sides})


def _config(spec: StepSpec) -> TrainConfig:
    batch = {"resolution": spec.resolution, "share": 1, "images": spec.images,
             "prompts": spec.prompts}  # fmt: skip
    return TrainConfig.model_validate(
        {"space": spec.space, "batches": [batch], "random_subnets": 1, **spec.changes}
    )


def _peak(device: torch.device) -> float:
    """Bytes at the peak: of this process, or of what torch has allocated on a GPU."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return float(peak_rss_bytes() or 0)
