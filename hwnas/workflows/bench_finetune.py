"""Memory and time of a fine-tuning's step, side by side for several methods.

Each method runs in a process of its own, so that its peak of memory is its own; all take the same
number of steps on the same pictures.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from hwnas.adapters.training_cost import TrainingCost, training_cost
from hwnas.config.finetuning import REFERENCES
from hwnas.errors import ConfigError
from hwnas.supernet.side.config import METHODS as SIDE_NETWORKS
from hwnas.supernet.training.finetuning.step_cost import (
    FinetuneStepCost,
    FinetuneStepSpec,
    measure_finetune_step,
)
from hwnas.workflows.finetune.methods import check_method
from hwnas.workflows.fresh_process import in_fresh_process
from hwnas.workload.adapter_choice import AdapterChoice
from hwnas.workload.sam_geometry import GEOMETRIES, SamGeometry

__all__ = ["METHODS", "bench_finetune"]

METHODS = ("lora", "dora", "shira", "nas_lora", "conv_lora", "foura", "losa", "lst", *REFERENCES)
_REFERENCE = "lora"
_MIB, _GIGA = 1 << 20, 1e9
Row = dict[str, object]


def bench_finetune(  # noqa: PLR0913 - one keyword for each thing that a step depends on
    base: str | SamGeometry = "sam-vit-t",
    *,
    methods: Sequence[str] = METHODS,
    resolution: int | None = None,
    images: int = 2,
    prompts: int = 8,
    steps: int = 3,
    rank: int = 8,
    device: str = "cpu",
    threads: int | None = None,
    seed: int = 0,
) -> list[Row]:
    """Peak memory in MiB and seconds of one step of `hwnas finetune`, for each of `methods`.

    A method is an adapter on the four linear layers of every block, as large as a LoRA of `rank`;
    a side network as it comes; `bitfit`, `full` or `decoder`. Weights are random in the official
    shapes, which changes neither time nor memory; pictures are noise at `resolution`, the largest
    of the base by default, with rectangles as objects. One step is left out of the time. Ratios
    are to `lora`, or to the first method where that is not among them.

    `stored` are the bytes of what is trained, in a file. `saved` is the most that autograd held for
    backward, which depends on no allocator: compare these. `peak` is that of the process, with an
    allocator that returns what is freed, and `in the step` what it holds more than before the
    first step; on cuda, of what torch has allocated. `CPU` seconds are those of all threads, to
    which other programs do not add: compare these on a machine that is shared. `counted` columns
    are those of `hwnas.adapters.training_cost`, of the encoder alone: tensors kept for backward,
    weights, gradients and moments, and multiplications; None for branches, side networks and
    references. A step of a relaxed architecture (`nas_lora`) is two: its own, and the weights'.

    Raises:
        ConfigError: an unknown base, no methods or one twice, or nothing to measure.
        PluginError: an unknown method.
    """
    geometry = _geometry(base)
    if not methods or len(set(methods)) < len(methods) or min(images, steps, rank) < 1:
        raise ConfigError(
            f"bench finetune: methods {', '.join(methods) or 'none'}, {images} images, {steps} "
            f"steps, rank {rank}; expected each method once, and at least 1 of the others"
        )
    side = resolution or geometry.image_size
    if side % geometry.patch:
        raise ConfigError(f"resolution {side}: expected a multiple of {geometry.patch} pixels")
    cores = threads or len(os.sched_getaffinity(0))
    costs = {}
    for method, options in {m: _options(m, rank, geometry) for m in methods}.items():
        spec = FinetuneStepSpec(
            geometry, method, options, side, images, prompts, steps, device, cores, seed
        )
        costs[method] = in_fresh_process(measure_finetune_step, spec)
    counts = {
        method: _counted(method, cost, rank, geometry, side) for method, cost in costs.items()
    }
    reference = _REFERENCE if _REFERENCE in costs else methods[0]
    return [
        {**_row(method, cost, costs[reference]),
         **_count_row(counts[method], counts[reference], images)}
        for method, cost in costs.items()
    ]  # fmt: skip


def _geometry(base: str | SamGeometry) -> SamGeometry:
    if isinstance(base, SamGeometry):
        return base
    if base not in GEOMETRIES:
        raise ConfigError(f"bench finetune: {base}; expected one of {', '.join(GEOMETRIES)}")
    return GEOMETRIES[base]


def _options(method: str, rank: int, geometry: SamGeometry) -> dict[str, Any]:
    check_method(method)
    if method in REFERENCES or method in SIDE_NETWORKS:
        return {}
    return AdapterChoice(method, rank, "all").options(geometry)


def _counted(
    method: str, cost: FinetuneStepCost, rank: int, geometry: SamGeometry, resolution: int
) -> TrainingCost | None:
    if not cost.merges:  # what a branch computes beside the layer is not in the count
        return None
    return training_cost(
        AdapterChoice(method, rank, "all"), geometry, trained=cost.trained,
        has_product=cost.has_product, resolution=resolution,
    )  # fmt: skip


def _row(method: str, cost: FinetuneStepCost, reference: FinetuneStepCost) -> Row:
    own, other = (c.peak_bytes - c.ready_bytes for c in (cost, reference))
    return {
        "method": method,
        "trained": cost.trained,
        "stored MiB": cost.stored_bytes / _MIB,
        "saved MiB": cost.saved_bytes / _MIB,
        "saved, ratio": cost.saved_bytes / reference.saved_bytes,
        "peak MiB": cost.peak_bytes / _MIB,
        "peak, ratio": cost.peak_bytes / reference.peak_bytes,
        "in the step MiB": own / _MIB,
        "in the step, ratio": own / other if other else None,
        "s/step": cost.median,
        "s/step, range": f"{min(cost.seconds):.2f} to {max(cost.seconds):.2f}",
        "time, ratio": cost.median / reference.median,
        "CPU s/step": cost.cpu_median,
        "CPU, ratio": cost.cpu_median / reference.cpu_median,
    }


def _count_row(cost: TrainingCost | None, reference: TrainingCost | None, images: int) -> Row:
    if cost is None:
        return dict.fromkeys(("counted MiB", "counted GMACs", "counted MACs, ratio"))
    held = cost.state_bytes + cost.frozen_bytes + images * cost.saved_bytes
    return {
        "counted MiB": held / _MIB,
        "counted GMACs": images * cost.macs / _GIGA,
        "counted MACs, ratio": None if reference is None else cost.macs / reference.macs,
    }
