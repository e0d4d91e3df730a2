"""The measurements of a study of signal propagation: one line a batch and pair of bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwnas.data.labeled import LabeledImage
from hwnas.data.transforms import preprocess
from hwnas.errors import DataError
from hwnas.supernet.propagation import PropagationProbe, Signals, compare
from hwnas.supernet.training.batches import Batch
from hwnas.supernet.training.stage import Share
from hwnas.workflows.study_log import StudyLog
from hwnas.workflows.study_propagation.options import (
    FLOAT,
    Bits,
    PropagationOptions,
    label_of,
)
from hwnas.workflows.watch import Watch

__all__ = ["cells_of", "draw_batch", "measure_all", "read_samples", "with_objects"]

_STREAM = 9_101  # of random numbers, beside those of a fine-tuning's steps
Record = dict[str, Any]


@dataclass(slots=True, eq=False)
class _Work:
    probe: PropagationProbe
    images: Sequence[LabeledImage]
    resolution: int
    options: PropagationOptions
    log: StudyLog
    watch: Watch
    done: int = 0


def with_objects(images: Sequence[LabeledImage], source: str) -> list[LabeledImage]:
    """The images that have an object to prompt.

    Raises:
        DataError: there is none.
    """
    found = [image for image in images if image.instances.any()]
    if not found:
        raise DataError(f"{source}: no image has an object to prompt; mark objects in some")
    return found


def measure_all(
    probe: PropagationProbe, images: Sequence[LabeledImage], resolution: int,
    options: PropagationOptions, log: StudyLog, watch: Watch,
) -> None:  # fmt: skip
    """Measure what the log lacks: every seed, batch and pair of bits."""
    work = _Work(probe, images, resolution, options, log, watch)
    total = options.seeds * options.batches * len(options.bits)
    watch.begin("measuring gradients", total)
    for seed in options.all_seeds:
        wanted = {
            number: [b for b in options.bits if _key(seed, number, b) not in log]
            for number in range(options.batches)
        }
        work.done += sum(len(options.bits) - len(bits) for bits in wanted.values())
        if any(wanted.values()):
            _measure_seed(work, seed, wanted)
    if work.done == total:
        watch.advance(total)


def read_samples(log: StudyLog, options: PropagationOptions, bits: Bits) -> list[Record]:
    """The records of one pair of bits, by seed and batch."""
    return [
        log[_key(seed, number, bits)]
        for seed in options.all_seeds
        for number in range(options.batches)
    ]


def draw_batch(
    probe: PropagationProbe, images: Sequence[LabeledImage], seed: int, number: int
) -> Batch:
    """A batch of views and prompts, the same for every pair of bits."""
    rng = np.random.default_rng([seed, _STREAM, number])
    return probe.objective.batch(images, rng, Share())


def cells_of(probe: PropagationProbe, found: Signals, reference: Signals) -> list[Record]:
    """The figures of each block and projection of the probe's model as it is now."""
    rows = compare(found, reference, probe.projections, probe.weight_noise())
    return [
        {"block": one.block, "projection": one.name, **figures}
        for one, figures in zip(probe.projections, rows, strict=True)
    ]


def _measure_seed(work: _Work, seed: int, wanted: dict[int, list[Bits]]) -> None:
    probe = work.probe
    needed = [b for b in work.options.bits if b != FLOAT and any(b in w for w in wanted.values())]
    order = np.random.default_rng(seed).permutation(len(work.images))[: work.options.calibration]
    device = next(probe.student.parameters()).device
    inputs = [preprocess(work.images[i].image, work.resolution).to(device) for i in order]
    quantizers = probe.calibrate(inputs, needed, seed=seed)
    for number, several in wanted.items():
        if not several:
            continue
        batch = draw_batch(probe, work.images, seed, number)
        probe.use(None)
        reference = probe.signals(batch)
        for bits in several:
            probe.use(quantizers.get(bits))
            found = probe.signals(batch)
            work.log.add(
                _key(seed, number, bits),
                {"bits": label_of(bits), "seed": seed, "batch": number, "losses": found.losses,
                 "float_losses": reference.losses, "cells": cells_of(probe, found, reference)},
            )  # fmt: skip
            work.done += 1
            work.watch.advance(work.done)


def _key(seed: int, batch: int, bits: Bits) -> str:
    return f"gradients/{seed}/{batch}/{label_of(bits)}"
