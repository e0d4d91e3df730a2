"""Training many small networks from scratch and writing their quality as evaluated subnets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.cost import build as build_cost
from hwnas.errors import ConfigError, HwnasError, Interrupted
from hwnas.records import EvaluatedSubnet
from hwnas.space import Arch, Archs, SearchSpace, load_space
from hwnas.supernet.probing.sources import weight_seed
from hwnas.supernet.scratch import BottleneckNet, UntrainedCnn, predict, train
from hwnas.workflows.arch_sources import archs_from
from hwnas.workflows.context import make_context
from hwnas.workflows.evaluate.lines import refuse_existing
from hwnas.workflows.study_log import StudyLog
from hwnas.workflows.study_scratch.options import (
    Material,
    ScratchOptions,
    cut_material,
    open_images,
)
from hwnas.workflows.watch import Silent, Watch
from hwnas.workload.cnn_plan import CnnGeometry, plan_of

__all__ = ["SUBNETS_FILE", "ScratchStudy", "study_scratch"]

SUBNETS_FILE = "subnets.jsonl"
Line = dict[str, Any]


@dataclass(frozen=True)
class ScratchStudy:
    """What was trained: a line for each network and seed, and what was left out and why.

    Lines are those of `EvaluatedSubnet`, with `metric`, what `iou` is (a share of right answers, or
    the IoU of objects), and `seed`, `steps`, `loss` and `seconds` of the training.
    """

    space: str
    metric: str
    lines: tuple[Line, ...]
    failed: Mapping[str, str]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"summary": self.summary()}

    def summary(self) -> Line:
        """Networks, trainings, spread of quality in points (0.01), and seconds of a training.

        `noise` is the standard deviation between trainings of one network, over all that were
        trained more than once, and `spread` the one between the means of networks; None where
        there are too few.
        """
        by_arch: dict[str, list[float]] = {}
        for line in self.lines:
            by_arch.setdefault(line["arch_id"], []).append(100 * line["iou"])
        means = [float(np.mean(values)) for values in by_arch.values()]
        again = [values for values in by_arch.values() if len(values) > 1]
        rest = sum(len(values) - 1 for values in again)
        squares = sum(float(np.var(values)) * len(values) for values in again)
        return {
            "networks": len(means), "trainings": len(self.lines), "metric": self.metric,
            "lowest": min(means, default=None), "highest": max(means, default=None),
            "spread": float(np.std(means, ddof=1)) if len(means) > 1 else None,
            "noise": float(np.sqrt(squares / rest)) if rest else None,
            "seconds each": float(np.median([line["seconds"] for line in self.lines]))
            if self.lines else None,
        }  # fmt: skip


def study_scratch(
    space: str | SearchSpace = "tile-cnn",
    *,
    out: str | Path,
    data: str | Path | None = None,
    options: ScratchOptions | None = None,
    resume: bool = False,
    watch: Watch | None = None,
) -> ScratchStudy:
    """Train each network from fresh weights on tiles of `train`, and score it on tiles of `val`.

    All see the same tiles for the same number of steps. The split test is never read.

    Args:
        space: name of a space whose networks can be made without a supernet, or the space.
        out: folder for `measurements.jsonl`, one line each as soon as it is trained, and
            `subnets.jsonl`, which `hwnas study proxies --subnets` takes.
        data: folder of annotated images with splits; the embedded picture by default.
        options: everything else.
        resume: go on in `out`; more networks and seeds may be added.
        watch: told where the study stands.

    Raises:
        ConfigError: the space has a supernet, or none at all.
        DataError: the images cannot be used.
        RunError: the folder exists, or was begun with other images or another recipe.
        Interrupted: Ctrl-C; what was trained is saved.
    """
    options, watch, live = options or ScratchOptions(), watch or Silent(), load_space(space)
    geometry = _geometry(live)
    archs = archs_from(live, options.archs, seed=options.seed)
    gbitops = build_cost("bitops", make_context(live)).evaluate(archs)
    bitops = dict(zip(archs.ids, gbitops.tolist(), strict=True))
    train_images, val_images, digests = open_images(data, options)
    if not resume:
        refuse_existing(Path(out))
    try:
        material = cut_material(geometry, _side(archs), train_images, val_images, options)
        # opened last, so that a refused study leaves no folder behind
        with StudyLog(Path(out), _settings(live, options, digests), resume=resume) as log:
            work = _Work(geometry, options, bitops, log)
            failed = _train_all(work, archs, material, watch)
            lines = work.write()
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"interrupted; what was trained is in {out}: go on with --resume"
        ) from error
    notes = [f"{len(archs)} networks, {options.recipe.steps} steps of {options.recipe.batch} tiles"]
    if data is None:
        notes.append("learned and scored on one picture: the figures say nothing of others")
    return ScratchStudy(live.name, material.task.metric, tuple(lines), failed, tuple(notes))


def _geometry(space: SearchSpace) -> CnnGeometry:
    context = make_context(space)
    source = None if context.supernet is None else context.require("supernet", by="the study")
    if not isinstance(source, UntrainedCnn):
        raise ConfigError(
            f"the networks of {space.name} cannot be trained from scratch here; take tile-cnn or "
            "tile-cnn-mask, or train a supernet with `hwnas train`"
        )
    return source.geometry


def _side(archs: Archs) -> int:
    sides = sorted({int(arch["resolution"]) for arch in archs})
    if len(sides) > 1:
        raise ConfigError(
            f"networks at {', '.join(map(str, sides))} pixels would be given different tiles; "
            "freeze the resolution"
        )
    return sides[0]


def _settings(
    space: SearchSpace, options: ScratchOptions, digests: Mapping[str, str]
) -> dict[str, Any]:
    recipe = options.recipe
    return {
        "study": "scratch", "space": space.name, "seed": options.seed, "images_sha256": digests,
        "tiles": options.tiles, "val_tiles": options.val_tiles, "span": options.span,
        "steps": recipe.steps, "batch": recipe.batch, "rate": recipe.rate,
    }  # fmt: skip


@dataclass(frozen=True)
class _Work:
    geometry: CnnGeometry
    options: ScratchOptions
    bitops: Mapping[str, float]
    log: StudyLog

    def train(self, arch: Arch, seed: int, material: Material) -> str | None:
        """Train and log one network, or return why it has no quality."""
        recipe, plan = self.options.recipe, plan_of(arch, self.geometry)
        own = weight_seed(arch.id, self.options.seed, seed)
        network = BottleneckNet(plan, own)
        done = train(network, material.train, recipe, own)
        if done.steps < recipe.steps:
            return (
                f"{done.steps} of {recipe.steps} steps in {recipe.max_seconds:g} s; give it more "
                "with --max-seconds and --resume"
            )
        score, error = material.task.score(predict(network, material.val), material.val)
        row = EvaluatedSubnet(
            arch_id=arch.id, genes=dict(arch.genes), iou=score, error=error, split="val",
            images=len(np.unique(material.val.sources)), objects=len(material.val),
            bitops=self.bitops[arch.id],
        )  # fmt: skip
        facts = {"metric": material.task.metric, "seed": seed, **asdict(done)}
        self.log.add(_key(arch, seed), asdict(row) | facts)
        return None

    def write(self) -> list[Line]:
        """Write the evaluated subnets, and return them."""
        lines = [dict(record) for record in self.log.records("network/")]
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        self.log.write(SUBNETS_FILE, text)
        return lines


def _train_all(
    work: _Work, archs: Sequence[Arch], material: Material, watch: Watch
) -> dict[str, str]:
    """Train what the log lacks; one that fails hurts only itself."""
    failed = {}
    # seeds outside, so that a study that is stopped early has every network once
    wanted = [(arch, seed) for seed in range(work.options.seeds) for arch in archs]
    watch.begin("training from scratch", len(wanted))
    for number, (arch, seed) in enumerate(wanted, start=1):
        key = _key(arch, seed)
        if key not in work.log:
            try:
                reason = work.train(arch, seed, material)
            except HwnasError as error:
                reason = str(error)
            if reason is not None:
                failed[key.removeprefix("network/")] = reason
                watch.remark(f"{arch.id}: {reason}")
            work.write()
        found = {"quality": work.log[key]["iou"]} if key in work.log else {}
        watch.advance(number, **found)
    return failed


def _key(arch: Arch, seed: int) -> str:
    return f"network/{arch.id}/{seed}"
