"""Train the shipped models from a DINOv2-layout backbone and a folder of annotated images."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hwnas.data.embedded import EXCLUDED_FROM_TRAINING
from hwnas.data.folder import LabeledImage, find_pairs, read_pairs
from hwnas.errors import ConfigError, RunError
from hwnas.supernet.training.recipe import Recipe
from hwnas.supernet.training.run import TrainingRun, train_head, train_small, write_json

__all__ = ["train_model"]

_LOG = logging.getLogger(__name__)


def train_model(
    name: str,
    *,
    data: str | Path,
    base: str | Path,
    out: str | Path,
    seed: int = 0,
    resume: bool = False,
    minutes: float | None = None,
    recipe: Recipe | None = None,
) -> dict[str, Any]:
    """Train `sam-vit-s` (stage s) or `sam-vit-t` (stages s, t1, t2); returns the stages' figures.

    `data` is a folder as in `hwnas.data.folder` whose split.csv has train and val; `base` the
    backbone. `out` receives the weights, `state.json`, `log.jsonl` (a line a minute), features
    and checkpoints. `minutes` bounds the training of all stages together, embedding of the views
    not counted. Images that show the shipped picture are left out. With `resume` an interrupted
    `out` is continued, else an existing one is refused.
    """
    if name not in ("sam-vit-s", "sam-vit-t"):
        raise ConfigError(f"{name}: no training recipe; expected sam-vit-s or sam-vit-t")
    recipe = recipe or Recipe()
    out = Path(out)
    state = _open(out, _request(name, data, base, seed, minutes, recipe), resume)
    images = _read(data, "train")
    validation = _read(data, "val")[:: recipe.validate_every]
    run = TrainingRun(out, state, seed, minutes, name)
    small = train_head(run, images, validation, base, recipe)
    if name == "sam-vit-t":
        train_small(run, images, validation, small, recipe)
    return dict(state["stages"])


def _read(data: str | Path, split: str) -> list[LabeledImage]:
    pairs = find_pairs(data, split=split)
    kept = [p for p in pairs if p.name not in EXCLUDED_FROM_TRAINING]
    for pair in pairs:
        if pair not in kept:
            _LOG.info("%s: left out, it shows the picture that ships with the package", pair.name)
    return read_pairs(kept)


def _request(
    name: str,
    data: str | Path,
    base: str | Path,
    seed: int,
    minutes: float | None,
    recipe: Recipe,
) -> dict[str, Any]:
    request = {
        "name": name,
        "data": str(data),
        "base": str(base),
        "seed": seed,
        "minutes": minutes,
        "recipe": asdict(recipe),
    }
    return dict(json.loads(json.dumps(request)))


def _open(out: Path, request: dict[str, Any], resume: bool) -> dict[str, Any]:
    path = out / "state.json"
    if not path.is_file():
        out.mkdir(parents=True, exist_ok=True)
        state = {"request": request, "stages": {}}
        write_json(path, state)
        return state
    if not resume:
        raise RunError(f"{out} holds a training run already; add --resume or name another folder")
    state = json.loads(path.read_text(encoding="utf-8"))
    changed = [k for k, v in request.items() if state["request"].get(k) != v]
    if changed:
        raise RunError(
            f"{out} was started with other values of {', '.join(changed)} (see {path}); "
            "repeat the command that started it, or name another folder"
        )
    return dict(state)
