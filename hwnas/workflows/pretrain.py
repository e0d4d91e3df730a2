"""Train the shipped models from a DINOv2-layout backbone and a folder of annotated images."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hwnas.data.embedded import EXCLUDED_FROM_TRAINING
from hwnas.data.folder import LabeledImage, find_pairs, read_pairs
from hwnas.errors import ConfigError
from hwnas.supernet.checkpoint import asset_path
from hwnas.supernet.training.distributed import open_world
from hwnas.supernet.training.pretraining.recipe import Recipe, restarted_recipe
from hwnas.supernet.training.pretraining.run import (
    TrainingRun,
    restart,
    train_head,
    train_small,
)
from hwnas.supernet.training.trackers import open_trackers
from hwnas.workflows.stage_watch import stage_watch
from hwnas.workflows.training_folder import explained_stop, open_folder, write_state
from hwnas.workflows.watch import Silent, Watch
from hwnas.workload.sam_geometry import GEOMETRIES

__all__ = ["Pretraining", "pretrain_model"]

_LOG = logging.getLogger(__name__)
_STAGES = {"sam-vit-s": ("s",), "sam-vit-t": ("s", "t1", "t2")}
_AGAIN = {"sam-vit-s": ("d",), "sam-vit-t": ("d", "t2")}  # with --start


@dataclass(frozen=True, slots=True)
class Pretraining:
    """What to train: `sam-vit-s` (stage s) or `sam-vit-t` (stages s, t1, t2), and from what.

    `data` is a folder as in `hwnas.data.folder` whose split.csv has train and val; `base` the
    backbone. With `start`, a file with such a model or its shipped name, training goes on from
    these weights and no backbone is needed: with stage d (the decoder, on the frozen encoder),
    with stage t2 of sam-vit-t (all of it; the default), or with both. `minutes` bounds the
    training of all stages together, embedding of the views not counted. Without `stages` all are
    run, without a recipe the one that the shipped models were made by.
    """

    name: str
    data: str | Path
    base: str | Path | None = None
    start: str | Path | None = None
    stages: tuple[str, ...] = ()
    seed: int = 0
    minutes: float | None = None
    recipe: Recipe | None = None


def pretrain_model(
    request: Pretraining,
    *,
    out: str | Path,
    resume: bool = False,
    device: str = "cpu",
    shard: bool = False,
    trackers: Sequence[str] = (),
    watch: Watch | None = None,
) -> dict[str, dict[str, Any]]:
    """Train a base model; returns the figures of each stage.

    `out` receives the weights, `state.json`, `log.jsonl`, features and checkpoints. Images that
    show the shipped picture are left out. With `resume` an interrupted `out` is continued, else an
    existing one is refused. Started by `torchrun`, all processes share every
    batch, and with `shard` the optimizer's state.

    Raises:
        ConfigError: the model, the stages, the device or a tracker does not exist.
        RunError: `out` holds a run already, or is in use.
        Interrupted: Ctrl-C or SIGTERM; a checkpoint is written.
    """
    out = Path(out)
    request = _completed(request)
    recipe, planned = request.recipe or Recipe(), request.stages
    weights = _weights(request.start)
    facts = dict(json.loads(json.dumps(asdict(request), default=str)))
    with (
        open_world(device, shard=shard) as world,
        open_folder(out, facts, resume=resume, world=world) as state,
    ):
        images = _read(request.data, "train")
        validation = _read(request.data, "val")[:: recipe.validate_every]
        used = trackers if world.leads else ()
        with open_trackers(used, out, facts) as opened, explained_stop():
            shown = stage_watch(watch or Silent(), by_clock=request.minutes is not None)
            run = TrainingRun(
                out, recipe, request.seed, planned, request.minutes, world, opened, shown
            )
            if weights is not None:
                restart(run, request.name, images, validation, weights)
            elif request.base is not None:
                head = train_head(run, images, validation, request.base)
                if "t1" in planned:
                    train_small(run, images, validation, head)
        if world.leads:
            write_state(out, {**state, "stages": run.figures})
    return run.figures


def _completed(request: Pretraining) -> Pretraining:
    name, stages = request.name, request.stages
    if name not in _STAGES:
        raise ConfigError(f"{name}: no training recipe; expected {' or '.join(_STAGES)}")
    known = _STAGES[name]
    if request.start is not None:
        again = _AGAIN[name]
        if not set(stages) <= set(again) or request.base is not None:
            raise ConfigError(
                f"--start goes on with {name}'s stages {','.join(again)} and needs no --base; got "
                f"stages {','.join(stages) or 'all'}, base {request.base or 'none'}"
            )
        planned = tuple(s for s in again if s in stages) or again[-1:]
        return replace(request, stages=planned, recipe=request.recipe or restarted_recipe())
    if request.base is None:
        raise ConfigError("no weights to begin with; give a backbone (--base) or --start")
    planned = stages or known
    if planned != known[: len(planned)]:
        raise ConfigError(
            f"stages {','.join(planned)}: {name} has {','.join(known)}, from the first on; "
            "to go on from trained weights give --start and stages d or t2"
        )
    return replace(request, stages=planned, recipe=request.recipe or Recipe())


def _weights(start: str | Path | None) -> Path | None:
    if start is None:
        return None
    path = asset_path(str(start)) if str(start) in GEOMETRIES else Path(start)
    if not path.is_file():
        raise ConfigError(f"--start {start}: no such file; expected weights or a shipped name")
    return path


def _read(data: str | Path, split: str) -> list[LabeledImage]:
    pairs = find_pairs(data, split=split)
    kept = [p for p in pairs if p.name not in EXCLUDED_FROM_TRAINING]
    for pair in pairs:
        if pair not in kept:
            _LOG.info("%s: left out, it shows the picture that ships with the package", pair.name)
    return read_pairs(kept)
