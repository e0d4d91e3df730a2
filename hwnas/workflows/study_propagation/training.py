"""Fine-tunings with and without frozen rows: the same budget, seeds and batches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.config.finetuning import FinetuneConfig
from hwnas.errors import ConfigError
from hwnas.workflows.finetune import finetune
from hwnas.workflows.study_log import StudyLog
from hwnas.workflows.study_propagation.options import (
    Bits,
    PropagationOptions,
    label_of,
    training_recipe,
)
from hwnas.workflows.watch import Watch

__all__ = ["FreezeRow", "compare_trainings", "recipes_of", "train_all", "training_key"]

FOLDER = "training"
Record = dict[str, Any]
Place = tuple[Bits, str]


@dataclass(frozen=True, slots=True)
class FreezeRow:
    """Fine-tunings of one policy at some bits.

    `iou` holds mean and deviation over seeds, by `WHEN.PROMPT`: `before`, in floating point and
    untrained, `quantized`, before training, `after`. `gain` is `after` less that of the same seed
    with nothing frozen, mean and deviation; None without such. `curve` holds step, mean and
    deviation of the loss.
    """

    bits: str
    freeze: str
    seeds: int
    trainable: int
    seconds: float
    iou: Mapping[str, tuple[float, float | None]]
    gain: Mapping[str, tuple[float, float | None]] | None
    curve: tuple[tuple[int, float, float | None], ...]


def recipes_of(config: FinetuneConfig, options: PropagationOptions) -> dict[Place, FinetuneConfig]:
    """The recipe for each pair of bits and policy; none without steps.

    Raises:
        ConfigError: what is trained has no rows to freeze.
    """
    if not options.train:
        return {}
    return {
        (bits, freeze): training_recipe(
            config, bits=bits, freeze=freeze, steps=options.train, images=options.calibration
        )
        for bits in options.train_bits
        for freeze in options.freezes
    }


def train_all(
    recipes: Mapping[Place, FinetuneConfig], options: PropagationOptions, log: StudyLog,
    watch: Watch, *, data: str | Path | None, device: str,
) -> None:  # fmt: skip
    """Run what the log lacks, each in a folder of its own below the study's.

    Raises:
        ConfigError: there are no images to train on.
        Interrupted: Ctrl-C; the one that ran is taken up again.
    """
    if recipes and data is None:
        raise ConfigError("--train: expected --data with the splits train and val to train on")
    # seeds outside, so that a study that is stopped early has every policy once
    for seed in options.all_seeds:
        for (bits, freeze), recipe in recipes.items():
            key = training_key(options.train, bits, freeze, seed)
            if key in log:
                continue
            watch.remark(f"fine-tuning at {label_of(bits)}, frozen: {freeze}, seed {seed}")
            out = log.path / key
            facts = finetune(
                recipe, data=str(data), out=out, seed=seed, resume=True, device=device, watch=watch
            )
            log.add(key, {"iou": facts["iou"], "trainable": facts["trainable_parameters"],
                          "seconds": facts["seconds"], "curve": _curve(out)})  # fmt: skip


def compare_trainings(log: StudyLog, options: PropagationOptions) -> tuple[FreezeRow, ...]:
    """A row for each pair of bits and policy, over the seeds that are done."""
    rows = []
    for bits in options.train_bits if options.train else ():
        plain = _records(log, options, bits, "none")
        for freeze in options.freezes:
            records = _records(log, options, bits, freeze)
            if not records:
                continue
            shared = [seed for seed in records if seed in plain]
            rows.append(
                FreezeRow(
                    label_of(bits), freeze, len(records), _first(records)["trainable"],
                    float(np.median([r["seconds"] for r in records.values()])),
                    {name: _spread([_iou(r)[name] for r in records.values()])
                     for name in _iou(_first(records))},
                    _gains(records, plain, shared) if shared and freeze != "none" else None,
                    _mean_curve([r["curve"] for r in records.values()]),
                )
            )  # fmt: skip
    return tuple(rows)


def training_key(steps: int, bits: Bits, freeze: str, seed: int) -> str:
    """Of the record, and the folder below the study's."""
    return f"{FOLDER}/{steps}-steps/{label_of(bits)}-{freeze}-{seed}"


def _records(
    log: StudyLog, options: PropagationOptions, bits: Bits, freeze: str
) -> dict[int, Record]:
    keys = {seed: training_key(options.train, bits, freeze, seed) for seed in options.all_seeds}
    return {seed: log[key] for seed, key in keys.items() if key in log}


def _first(records: Mapping[int, Record]) -> Record:
    return next(iter(records.values()))


def _iou(record: Record) -> dict[str, float]:
    """By `WHEN.PROMPT`; `quantized` is not there in floating point."""
    return {
        f"{when}.{prompt}": value
        for when, found in record["iou"].items() if found is not None
        for prompt, value in found.items()
    }  # fmt: skip


def _gains(
    records: Mapping[int, Record], plain: Mapping[int, Record], seeds: Sequence[int]
) -> dict[str, tuple[float, float | None]]:
    prompts = _first(records)["iou"]["after"]
    return {
        prompt: _spread(
            [records[s]["iou"]["after"][prompt] - plain[s]["iou"]["after"][prompt] for s in seeds]
        )
        for prompt in prompts
    }


def _curve(folder: Path) -> list[tuple[int, float]]:
    """Step and mean loss since the line before, as the run has logged them."""
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [(line["step"], line["loss"]) for line in found if "loss" in line]


def _mean_curve(
    curves: Sequence[Sequence[Sequence[float]]],
) -> tuple[tuple[int, float, float | None], ...]:
    steps = [int(point[0]) for point in curves[0]]
    by_step = [{int(step): loss for step, loss in curve} for curve in curves]
    told = [(step, [one[step] for one in by_step if step in one]) for step in steps]
    return tuple((step, *_spread(losses)) for step, losses in told)


def _spread(values: Sequence[float]) -> tuple[float, float | None]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
