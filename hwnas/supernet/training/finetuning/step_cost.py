"""Memory and time of a fine-tuning's step, measured in this process, by what is trained."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hwnas.adapters.stored import stored_tensors
from hwnas.config.finetuning import REFERENCES, FinetuneConfig
from hwnas.data.labeled import LabeledImage
from hwnas.errors import ConfigError
from hwnas.supernet.sam_model import build_sam
from hwnas.supernet.side.config import METHODS
from hwnas.supernet.side.student import SideStudent, side_student
from hwnas.supernet.training.distributed import World
from hwnas.supernet.training.finetuning.attached_student import AttachedStudent
from hwnas.supernet.training.finetuning.objective import FinetuneStep, Objective
from hwnas.supernet.training.finetuning.relaxation import Clock, Relaxation
from hwnas.supernet.training.finetuning.run import check_run
from hwnas.supernet.training.finetuning.student import ARCH, parameter_groups
from hwnas.supernet.training.optimizer import Optimizer
from hwnas.supernet.training.peak_memory import peak_rss_bytes
from hwnas.supernet.training.saved_bytes import SavedBytes
from hwnas.supernet.training.stage import Share, Stage
from hwnas.workload.sam_geometry import SamGeometry

__all__ = ["FinetuneStepCost", "FinetuneStepSpec", "measure_finetune_step"]

_CELLS = 6  # objects along a side of a picture


@dataclass(frozen=True, slots=True)
class FinetuneStepSpec:
    """A step: `method` is a kind of adapter, one of `REFERENCES` or a side network."""

    geometry: SamGeometry
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    resolution: int = 256
    images: int = 2
    prompts: int = 8
    steps: int = 3
    device: str = "cpu"
    threads: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FinetuneStepCost:
    """What a step takes.

    Attributes:
        trained: Trained numbers, those of a relaxed architecture too.
        stored_bytes: Tensors that are kept of it in a file.
        merges: Whether nothing of it but weights is left in the network.
        has_product: As in `WeightAdapter`, of all adapters; false without any.
        saved_bytes: The most that autograd held for backward, model and what is trained left out.
        ready_bytes: Of this process, or of torch on a GPU, before the first step.
        peak_bytes: The most until the end of the last step.
        seconds: Of each timed step.
        cpu_seconds: Of the processors in each, of all threads together.
    """

    trained: int
    stored_bytes: int
    merges: bool
    has_product: bool
    saved_bytes: int
    ready_bytes: int
    peak_bytes: int
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds of the step in the middle."""
        return statistics.median(self.seconds)

    @property
    def cpu_median(self) -> float:
        """Processor seconds of the step in the middle."""
        return statistics.median(self.cpu_seconds)


def measure_finetune_step(spec: FinetuneStepSpec) -> FinetuneStepCost:
    """Take one step to warm up and `spec.steps` timed ones, on pictures of noise and rectangles.

    Weights are random in the shapes of the geometry. A step is what `hwnas finetune` does in one:
    it draws views and prompts, goes forward and backward, clips, and moves weights and their
    average. Where there is a relaxed architecture each step trains it, too, and gates are hard, as
    in most steps of a run. Run it in a fresh process: the peak is the process's.

    Raises:
        ConfigError, PluginError: there is no such method, or it does not take the options.
    """
    torch.set_num_threads(spec.threads)
    device, config = torch.device(spec.device), _config(spec)
    student = _student(spec, config)
    student.module.to(device)
    groups = student.groups()
    trained = sum(p.numel() for group in groups.values() for _, p in group)
    stored = _stored_bytes(student)
    stage, step = _stage(spec, config, student, device)
    optimizer = Optimizer(stage, World(device=device))
    seconds, cpu_seconds = [], []
    student.module.train()
    meter = SavedBytes([*student.sam.state_dict().values(), *student.module.state_dict().values()])
    ready = _begin_peak(device)
    for number in range(spec.steps + 1):
        begun, cpu_begun = time.perf_counter(), time.process_time()
        optimizer.clear()
        with nullcontext() if number else meter:  # counting takes time
            step(np.random.default_rng([spec.seed, number]), Share())
        optimizer.step(1.0, number)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begun)
        cpu_seconds.append(time.process_time() - cpu_begun)
    adapters = student.adapters
    return FinetuneStepCost(
        trained, stored,
        merges=bool(adapters) and all(adapter.role != "branch" for adapter in adapters),
        has_product=bool(adapters) and all(adapter.has_product for adapter in adapters),
        saved_bytes=meter.peak, ready_bytes=ready, peak_bytes=_peak(device),
        seconds=tuple(seconds[1:]), cpu_seconds=tuple(cpu_seconds[1:]),
    )  # fmt: skip


def _config(spec: FinetuneStepSpec) -> FinetuneConfig:
    return FinetuneConfig.model_validate(
        {
            "base": spec.geometry.name,
            "adapter": {"kind": spec.method, "options": dict(spec.options)},
            "resolution": spec.resolution,
            "images": spec.images,
            "prompts": spec.prompts,
            "steps": spec.steps + 1,
            "harden": 0.0,
            # each step trains the architecture, where there is one
            "architecture": {"warmup": 0.0, "frozen": 0.0, "anneal": False},
        }
    )


def _student(spec: FinetuneStepSpec, config: FinetuneConfig) -> AttachedStudent | SideStudent:
    torch.manual_seed(spec.seed)
    sam = build_sam(spec.geometry)
    if spec.method in METHODS:
        return side_student(sam, spec.method, spec.options, seed=spec.seed)
    return AttachedStudent(sam, config, seed=spec.seed)


def _stage(
    spec: FinetuneStepSpec, config: FinetuneConfig, student: AttachedStudent | SideStudent,
    device: torch.device,
) -> tuple[Stage, FinetuneStep]:  # fmt: skip
    """As a run has them, without a teacher, validation or a folder."""
    groups, world = student.groups(), World(device=device)
    own = parameter_groups(groups, config)
    arch = [parameter for _, parameter in groups.get(ARCH, ())]
    relaxation = None
    if arch:
        relaxation = Relaxation(arch, student.adapters, config.architecture).to(device)
    layers = student.layers if isinstance(student, AttachedStudent) else {}
    freeze = check_run(student, config, layers)
    pictures = _pictures(spec)
    step = FinetuneStep(
        Objective(student, config, spec.resolution), (pictures, pictures),
        [parameter for group in own for _, parameter in group.parameters],
        Clock(config.steps).to(device), freeze, relaxation, world, student.adapters, config.harden,
    )  # fmt: skip
    stage = Stage("bench", 1, student.module, own, config.steps, step, dict, ema=config.ema,
                  clip=config.clip)  # fmt: skip
    return stage, step


def _pictures(spec: FinetuneStepSpec) -> list[LabeledImage]:
    """Noise with a rectangle in each cell of a grid, at the size of the input."""
    rng = np.random.default_rng(spec.seed)
    side, cell = spec.resolution, spec.resolution // _CELLS
    if cell < _CELLS:
        raise ConfigError(
            f"resolution {side}: too small for {_CELLS} objects along a side; expected at least "
            f"{_CELLS**2} pixels"
        )
    found = []
    for number in range(spec.images):
        ids = np.zeros((side, side), np.int32)
        for at in range(_CELLS**2):
            y, x = (cell * (at // _CELLS), cell * (at % _CELLS))
            height, width = rng.integers(cell // 2, cell, size=2)
            ids[y : y + height, x : x + width] = at + 1
        pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        found.append(LabeledImage(f"noise-{number}", pixels, ids))
    return found


def _stored_bytes(student: AttachedStudent | SideStudent) -> int:
    """Of adapters as they are written, of a side network all, else of what is trained."""
    if isinstance(student, SideStudent):
        tensors = list(student.side.state_dict().values())
    elif student.config.adapter.kind in REFERENCES:
        tensors = list(student.tuned_tensors().values())
    else:
        (name, adapter), *_ = student.attached.specs.items()
        written = stored_tensors(adapter.kind, student.attached.adapters(name))
        tensors = [tensor for layer in written.values() for tensor in layer.values()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _begin_peak(device: torch.device) -> int:
    """Forget the peak of making the model; the bytes that are held now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    try:  # Linux sets the peak of a process to what it holds; elsewhere the peak stays
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        pass
    return _peak(device)


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_rss_bytes() or 0
