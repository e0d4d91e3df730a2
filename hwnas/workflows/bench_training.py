"""Memory and time of a supernet's training step, side by side for several ways to train.

Each way runs in a process of its own, so that its peak of memory is its own; all of them take the
same steps on the same images with the same subnets.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from hwnas.errors import ConfigError
from hwnas.supernet.training.elastic.step_cost import StepCost, StepSpec, measure_step
from hwnas.workflows.fresh_process import in_fresh_process
from hwnas.workload.sam_geometry import GEOMETRIES

__all__ = ["WAYS", "bench_training"]

WAYS: dict[str, dict[str, Any]] = {
    "multiplex": {"adapter": {"layout": "multiplex"}},
    "selective": {"adapter": {"layout": "selective"}},
    "shared": {"adapter": {"layout": "shared"}},
    "none": {"adapter": {"layout": "none"}},
    "qfa": {"adapter": {"layout": "none"}, "activation": "batch"},
}
_MIB = 1 << 20
Row = dict[str, object]


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
    threads: int | None = None,
    seed: int = 0,
) -> list[Row]:
    """Peak memory and seconds of a training step for each of `ways`, in MiB and s.

    Weights are random in the official shapes (time and memory do not depend on their values), the
    picture is the embedded one. A step trains the largest, the smallest and one random subnet, with
    the teacher's pass and AdamW. `peak` is that of the process,
    with an allocator that returns what is freed, on cuda what torch has allocated;
    `model` is what `StaticMemory` says weights, gradients and moments take. One step is left out
    of the time as a warm-up. Ratios are to the last of `ways`.

    Raises:
        ConfigError: an unknown way or space.
    """
    unknown = [way for way in ways if way not in WAYS]
    if unknown or space not in GEOMETRIES:
        raise ConfigError(
            f"bench training: {', '.join(unknown) or space}; expected ways among "
            f"{', '.join(WAYS)} and a space among {', '.join(GEOMETRIES)}"
        )
    costs = []
    for way in ways:
        spec = StepSpec(
            space, WAYS[way], resolution, images, prompts, steps, checkpoint_blocks, device,
            threads or len(os.sched_getaffinity(0)), seed,
        )  # fmt: skip
        costs.append(in_fresh_process(measure_step, spec))
    return [_row(way, cost, costs[-1]) for way, cost in zip(ways, costs, strict=True)]


def _row(way: str, cost: StepCost, last: StepCost) -> Row:
    return {
        "way": way,
        "trained": cost.trained,
        "model MiB": cost.model_bytes / _MIB,
        "peak MiB": cost.peak_bytes / _MIB,
        "peak, ratio": cost.peak_bytes / last.peak_bytes,
        "s/step": cost.median,
        "s/step, range": f"{min(cost.seconds):.2f} to {max(cost.seconds):.2f}",
        "time, ratio": cost.median / last.median,
    }
