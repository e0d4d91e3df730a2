"""Memory and time of a supernet's training step, side by side for several ways to train.

Each way runs in a process of its own, so that its peak of memory is its own; all of them take the
same steps on the same images with the same subnets.
"""

from __future__ import annotations

import multiprocessing
import re
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hwnas.config.training import TrainConfig
from hwnas.data.embedded import embedded_image
from hwnas.errors import ConfigError
from hwnas.quant.bits import ATTENTION_BITS, EDGE_BITS, signed_codes
from hwnas.space import SearchSpace, load_space
from hwnas.supernet.elastic_encoder import ElasticEncoder
from hwnas.supernet.encoder_weights import NECK_CONV, NECK_LINEAR, PATCH
from hwnas.supernet.memory import StaticMemory
from hwnas.supernet.sam_model import build_sam
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.scale_table import ScaleTable, attention_key, input_key, weight_key
from hwnas.supernet.training.distributed import World
from hwnas.supernet.training.elastic.groups import parameter_groups
from hwnas.supernet.training.elastic.objective import ElasticStep
from hwnas.supernet.training.elastic.phases import AXES, Phase
from hwnas.supernet.training.elastic.run import fresh_adapters, frozen_copy
from hwnas.supernet.training.elastic.tasks import PromptTask
from hwnas.supernet.training.optimizer import Optimizer
from hwnas.supernet.training.sampling import SubnetSampler, opened
from hwnas.supernet.training.stage import Share, Stage
from hwnas.workload.sam_geometry import GEOMETRIES
from hwnas.workload.sam_plan import LINEARS

__all__ = ["WAYS", "bench_training"]

WAYS: dict[str, dict[str, Any]] = {
    "multiplex": {"adapter": {"layout": "multiplex"}},
    "selective": {"adapter": {"layout": "selective"}},
    "shared": {"adapter": {"layout": "shared"}},
    "none": {"adapter": {"layout": "none"}},
    "qfa": {"adapter": {"layout": "none"}, "activation": "batch"},
}
_BITS = (8, 4, 3, 2)
_MIB = 1 << 20
Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class _Spec:
    way: str
    space: str
    resolution: int
    images: int
    prompts: int
    steps: int
    checkpoint_blocks: bool
    device: str
    threads: int
    seed: int


def bench_training(  # noqa: PLR0913 - one keyword for each thing that a step depends on
    space: str = "sam-vit-b",
    *,
    ways: Sequence[str] = ("multiplex", "none", "qfa"),
    resolution: int = 448,
    images: int = 1,
    prompts: int = 4,
    steps: int = 3,
    checkpoint_blocks: bool = False,
    device: str = "cpu",
    seed: int = 0,
) -> list[Row]:
    """Peak memory and seconds of a training step for each of `ways`, in MiB and s.

    Weights are random in the official shapes (time and memory do not depend on their values), the
    picture is the embedded one. A step trains the largest, the smallest and one random subnet, with
    the teacher's pass and AdamW. `peak` is that of the process, on cuda what torch has allocated;
    `model` is what `StaticMemory` says weights, gradients and moments take. One step is left out
    of the time as a warm-up.

    Raises:
        ConfigError: an unknown way or space.
    """
    unknown = [way for way in ways if way not in WAYS]
    if unknown or space not in GEOMETRIES:
        raise ConfigError(
            f"bench training: {', '.join(unknown) or space}; expected ways among "
            f"{', '.join(WAYS)} and a space among {', '.join(GEOMETRIES)}"
        )
    found = []
    for way in ways:
        spec = _Spec(way, space, resolution, images, prompts, steps, checkpoint_blocks, device,
                     torch.get_num_threads(), seed)  # fmt: skip
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            found.append(pool.submit(_measure, spec).result())
    for row in found:
        row["memory ratio"] = row["peak MiB"] / found[-1]["peak MiB"]
        row["time ratio"] = row["s/step"] / found[-1]["s/step"]
    return [dict(row) for row in found]


def _measure(spec: _Spec) -> dict[str, Any]:
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
    supernet.encoder.scales = _rough_scales(supernet.encoder, config)
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
    return {
        "way": spec.way + (" + checkpoint" if spec.checkpoint_blocks else ""),
        "trained": sum(p.numel() for g in groups for _, p in g.parameters),
        "model MiB": static.total_bytes / _MIB,
        "peak MiB": _peak(device) / _MIB,
        "s/step": statistics.median(seconds[1:]),
        "s/step, range": f"{min(seconds[1:]):.2f} to {max(seconds[1:]):.2f}",
    }


def _at(space: SearchSpace, spec: _Spec, phase: Phase) -> SearchSpace:
    sides = [g.name for g in space.genes if g.role == "resolution"]
    return opened(space, phase.roles, phase.bits).restrict({n: [spec.resolution] for n in sides})


def _config(spec: _Spec) -> TrainConfig:
    batch = {"resolution": spec.resolution, "share": 1, "images": spec.images,
             "prompts": spec.prompts}  # fmt: skip
    return TrainConfig.model_validate(
        {"space": spec.space, "batches": [batch], "random_subnets": 1, **WAYS[spec.way]}
    )


@torch.no_grad()
def _rough_scales(encoder: ElasticEncoder, config: TrainConfig) -> ScaleTable:
    """Scales that cost nothing to find; how well they fit changes neither memory nor time."""
    tensors: dict[str, torch.Tensor] = {}
    for layer, bits in _quantized(encoder):
        largest = encoder.weight(layer, bits, bits).flatten(1).abs().amax(1)
        tensors[weight_key(layer, bits)] = largest / signed_codes(bits)[1] + 1e-6
        tensors[input_key(layer, bits)] = torch.tensor([4 / (1 << bits), -2.0])
    for block in range(encoder.geometry.depth):
        for bits in ATTENTION_BITS:
            own = 4 / (1 << bits)
            tensors[attention_key(block, bits)] = torch.tensor([own, own, own, 1 / (1 << bits)])
    device = encoder.encoder.pos_embed.device
    moved = {name: value.to(device) for name, value in tensors.items()}
    return ScaleTable(moved, relative=True, activation=config.activation).to(device)


def _quantized(encoder: ElasticEncoder) -> Iterator[tuple[str, int]]:
    for block in range(encoder.geometry.depth):
        yield from ((f"blocks.{block}.{name}", bits) for name in LINEARS for bits in _BITS)
    yield from ((name, EDGE_BITS) for name in (PATCH, NECK_LINEAR, NECK_CONV))


def _peak(device: torch.device) -> float:
    """Bytes at the peak: of this process, or of what torch has allocated on a GPU."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss would count the parent, from before exec
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"))
        if found:
            return float(found[1]) * 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024
