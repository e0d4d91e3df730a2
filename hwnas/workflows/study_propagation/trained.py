"""Signals of the models that were fine-tuned with and without frozen rows.

Source: KD-QAT with ov-freeze (arXiv 2403.18159), of which a secondary summary was at hand: with o
and v frozen the forward and backward statistics resemble those in floating point. So each
fine-tuned model is compared with the base in floating point, on the batches of its seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwnas.config.finetuning import FinetuneConfig
from hwnas.data.labeled import LabeledImage
from hwnas.supernet.propagation import PropagationProbe
from hwnas.supernet.training.finetuning.attached_student import AttachedStudent
from hwnas.supernet.training.finetuning.objective import Teacher
from hwnas.supernet.training.finetuning.opening import open_finetuned
from hwnas.workflows.study_log import StudyLog
from hwnas.workflows.study_propagation.measure import cells_of, draw_batch
from hwnas.workflows.study_propagation.options import Bits, PropagationOptions, label_of
from hwnas.workflows.study_propagation.ranking import ProjectionRow, rank_projections
from hwnas.workflows.study_propagation.training import training_key
from hwnas.workflows.watch import Watch

__all__ = ["TrainedSignals", "measure_trained", "read_trained"]


@dataclass(frozen=True, slots=True)
class TrainedSignals:
    """The projections of the models of one policy at some bits, over their seeds and batches.

    Gradients of the weights of frozen rows are zero; their ratio and cosine say nothing.
    """

    bits: str
    freeze: str
    samples: int
    rows: tuple[ProjectionRow, ...]


def measure_trained(
    probe: PropagationProbe, images: Sequence[LabeledImage], config: FinetuneConfig,
    options: PropagationOptions, log: StudyLog, watch: Watch, *, teacher: Teacher | None,
) -> None:  # fmt: skip
    """Measure what the log lacks of the models that were fine-tuned; `probe` is of the base.

    Models whose layers carry nothing, as those with a network beside the encoder, are left out.
    """
    device = next(probe.student.parameters()).device
    wanted = [
        (place, [n for n in range(options.batches) if _key(options, *place, n) not in log])
        for place in _places(options)
    ]
    total = sum(len(numbers) for _, numbers in wanted)
    if total:
        watch.begin("measuring what was trained", total)
    done = 0
    for (bits, freeze, seed), numbers in wanted:
        if not numbers:
            continue
        folder = log.path / training_key(options.train, bits, freeze, seed)
        opened = open_finetuned(folder, base=config.base)
        if not isinstance(opened.student, AttachedStudent) or not opened.student.layers:
            continue
        opened.student.to(device)
        own = PropagationProbe(opened.student, config, opened.resolution, teacher=teacher)
        for number in numbers:
            batch = draw_batch(probe, images, seed, number)
            probe.use(None)
            reference, found = probe.signals(batch), own.signals(batch)
            record = {"losses": found.losses, "cells": cells_of(own, found, reference)}
            log.add(_key(options, bits, freeze, seed, number), record)
            done += 1
            watch.advance(done)


def read_trained(log: StudyLog, options: PropagationOptions, loss: str) -> list[TrainedSignals]:
    """What was measured of each pair of bits and policy, for one loss."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for bits, freeze, seed in _places(options):
        keys = [_key(options, bits, freeze, seed, number) for number in range(options.batches)]
        found.setdefault((label_of(bits), freeze), []).extend(log[k] for k in keys if k in log)
    return [
        TrainedSignals(bits, freeze, len(samples), tuple(rank_projections(samples, loss)))
        for (bits, freeze), samples in found.items()
        if samples
    ]


def _places(options: PropagationOptions) -> Iterator[tuple[Bits, str, int]]:
    for bits in options.train_bits if options.train else ():
        for freeze in options.freezes:
            for seed in options.all_seeds:
                yield bits, freeze, seed


def _key(options: PropagationOptions, bits: Bits, freeze: str, seed: int, number: int) -> str:
    return f"trained/{training_key(options.train, bits, freeze, seed)}/{number}"
