"""One loop for every stage: cosine rate, moving average, a log line a minute, safe to kill.

The batch of step k depends on the seed and k alone, so a stage that was killed and resumed from
its checkpoint continues with the batches it would have had.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hwnas.errors import CheckpointError
from hwnas.supernet.training.recipe import Mix, StageRecipe

__all__ = ["Stage", "run_stage"]

_LOG = logging.getLogger(__name__)
_SAVE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Stage:
    """What a stage trains and how it judges a step.

    `loss(mix, rng)` gives named scalars of one batch, `"loss"` among them; `validate` gives named
    figures of the module as it is at the call. Only parameters that require a gradient train.
    """

    name: str
    number: int
    module: torch.nn.Module
    recipe: StageRecipe
    loss: Callable[[Mix, np.random.Generator], Mapping[str, torch.Tensor]]
    validate: Callable[[], Mapping[str, float]]
    validate_seconds: float = 900.0


def run_stage(stage: Stage, folder: Path, *, seed: int, minutes: float | None) -> dict[str, Any]:
    """Train a stage, from its checkpoint in `folder` if there is one; leave the averaged weights.

    Ends after `recipe.steps` steps or after `minutes` of training (waiting included), whichever
    comes first; the learning rate follows the one that is ahead, so that it always ends at zero.
    Without `minutes` the result depends on the seed alone.
    """
    parameters = [p for p in stage.module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=stage.recipe.rate, weight_decay=stage.recipe.weight_decay
    )
    average = {k: v.detach().clone() for k, v in _trained(stage.module).items()}
    path = folder / f"{stage.name}.checkpoint"
    step, before = _restore(path, stage.module, average, optimizer)
    log = _Log(folder / "log.jsonl", stage.name)
    began, saved, judged = time.monotonic(), time.monotonic(), time.monotonic()
    limit = None if minutes is None else minutes * 60
    while True:
        seconds = before + time.monotonic() - began
        done = step / stage.recipe.steps
        progress = done if limit is None else max(done, seconds / limit)
        if progress >= 1:
            break
        figures = _step(stage, optimizer, parameters, average, step, progress, seed)
        step += 1
        log.add(figures, step, seconds)
        if time.monotonic() - saved > _SAVE_SECONDS:
            _save(path, stage.module, average, optimizer, step, seconds)
            saved = time.monotonic()
        if time.monotonic() - judged > stage.validate_seconds:
            log.write(step, seconds, _validated(stage, average))
            judged = time.monotonic()
    stage.module.load_state_dict(average, strict=False)
    stage.module.eval()
    final = dict(stage.validate())
    log.write(step, seconds, final)
    return {"steps": step, "seconds": round(seconds, 1), **final}


def _step(
    stage: Stage,
    optimizer: torch.optim.Optimizer,
    parameters: list[torch.nn.Parameter],
    average: dict[str, torch.Tensor],
    step: int,
    progress: float,
    seed: int,
) -> dict[str, float]:
    recipe = stage.recipe
    rng = np.random.default_rng([seed, stage.number, step])
    mix = recipe.mixes[rng.choice(len(recipe.mixes), p=[m.share for m in recipe.mixes])]
    rise = min(1.0, (step + 1) / (recipe.warmup * recipe.steps))
    for group in optimizer.param_groups:
        group["lr"] = recipe.rate * rise * 0.5 * (1 + math.cos(math.pi * progress))
    losses = stage.loss(mix, rng)
    optimizer.zero_grad(set_to_none=True)
    losses["loss"].backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)
    if not bool(torch.isfinite(norm)):
        _LOG.warning("%s step %d: gradient is not finite, step skipped", stage.name, step)
        return {}
    optimizer.step()
    decay = min(recipe.ema, (step + 1) / (step + 10))
    with torch.no_grad():
        for key, value in _trained(stage.module).items():
            average[key].lerp_(value, 1 - decay)
    return {f"{k}@{mix.resolution}": float(v.detach()) for k, v in losses.items()}


def _trained(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {k: p.data for k, p in module.named_parameters() if p.requires_grad}


def _validated(stage: Stage, average: dict[str, torch.Tensor]) -> Mapping[str, float]:
    own = {k: v.clone() for k, v in _trained(stage.module).items()}
    stage.module.load_state_dict(average, strict=False)
    stage.module.eval()
    try:
        return stage.validate()
    finally:
        stage.module.load_state_dict(own, strict=False)


def _save(
    path: Path,
    module: torch.nn.Module,
    average: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    step: int,
    seconds: float,
) -> None:
    partial = path.with_name(path.name + ".part")
    state = {
        "step": step,
        "seconds": seconds,
        "module": _trained(module),
        "average": average,
        "optimizer": optimizer.state_dict(),
    }
    torch.save(state, partial)
    os.replace(partial, path)


def _restore(
    path: Path,
    module: torch.nn.Module,
    average: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> tuple[int, float]:
    if not path.is_file():
        return 0, 0.0
    try:
        state = torch.load(path, weights_only=True)
        module.load_state_dict(state["module"], strict=False)
        average.update(state["average"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, KeyError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: cannot continue from it ({error}); expected a checkpoint of this recipe, "
            "delete it to repeat the stage"
        ) from error
    return int(state["step"]), float(state["seconds"])


class _Log:
    """Appends a JSON line a minute: means since the last line."""

    def __init__(self, path: Path, stage: str) -> None:
        self._path, self._stage = path, stage
        self._figures: dict[str, list[float]] = {}
        self._written = time.monotonic()

    def add(self, figures: Mapping[str, float], step: int, seconds: float) -> None:
        for key, value in figures.items():
            self._figures.setdefault(key, []).append(value)
        if time.monotonic() - self._written >= 60:
            self.write(step, seconds, {})

    def write(self, step: int, seconds: float, extra: Mapping[str, float]) -> None:
        means = {k: round(float(np.mean(v)), 4) for k, v in sorted(self._figures.items())}
        line = {"stage": self._stage, "step": step, "seconds": round(seconds), **means, **extra}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._figures.clear()
        self._written = time.monotonic()
