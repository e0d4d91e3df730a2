"""One loop for every stage: cosine rate, moving average, curves, safe to kill.

The batch of step k depends on the seed, the stage's number and k alone, so a stage that was killed
and resumed from its checkpoint continues with the batches it would have had.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hwnas.errors import CheckpointError, Interrupted, TrainingError
from hwnas.supernet.training.checkpoints import (
    read_checkpoint,
    read_result,
    write_checkpoint,
    write_result,
)
from hwnas.supernet.training.curves import Curve, Tracker
from hwnas.supernet.training.distributed import World
from hwnas.supernet.training.optimizer import Optimizer
from hwnas.supernet.training.stage import Stage
from hwnas.supernet.training.stopping import StopSignals

__all__ = ["Progress", "run_stage"]

_LOG = logging.getLogger(__name__)
_MOST_SKIPPED = 20  # steps in a row without a finite gradient


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a stage stands: `done` is its share, 0 to 1, by steps or by minutes."""

    stage: str
    step: int
    steps: int
    done: float
    seconds_left: float | None
    figures: Mapping[str, float]


@dataclass(slots=True)
class _Position:
    """What a checkpoint keeps beside the tensors."""

    step: int = 0
    seconds: float = 0.0
    skipped: int = 0
    in_a_row: int = 0


def run_stage(
    stage: Stage,
    folder: Path,
    *,
    seed: int,
    world: World | None = None,
    trackers: Sequence[Tracker] = (),
    progress: Callable[[Progress], None] | None = None,
    save_seconds: float = 60.0,
) -> dict[str, Any]:
    """Train a stage, from its checkpoint in `folder` if there is one; leave the averaged weights.

    Returns the figures of the last validation with `steps`, `seconds` and `skipped`. A stage that
    is done is not repeated: its weights and figures are read. Without `stage.minutes` the result
    depends on the seed alone; with them, the clock includes what was spent before a kill.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the checkpoint is written.
        TrainingError: more than 20 steps in a row had no finite gradient.
        CheckpointError: the checkpoint is damaged, or of another stage or seed.
    """
    found = read_result(folder, stage.name)
    if found is not None:
        return _restore_result(stage, *found)
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(stage, folder, seed, world or World(), trackers)
    run.restore()
    with StopSignals() as signals:
        return run.to_the_end(signals, progress, save_seconds)


class _Run:
    """A stage on its way."""

    def __init__(
        self, stage: Stage, folder: Path, seed: int, world: World, trackers: Sequence[Tracker]
    ) -> None:
        self._stage, self._folder, self._seed, self._world = stage, folder, seed, world
        self._trackers = trackers
        self._optimizer = Optimizer(stage, world)
        self._at = _Position()
        self._curve: Curve
        self._began = self._saved = time.monotonic()

    def restore(self) -> None:
        """Go to where the checkpoint is."""
        stage, folder = self._stage, self._folder / "checkpoint"
        tensors, facts = read_checkpoint(folder, stage.name)
        pending, last = {}, -1
        if facts:
            try:
                _check_identity(facts["of"], _identity(stage, self._seed))
                self._optimizer.load(tensors)
                _load_buffers(stage.module, tensors)
                self._at = _Position(**facts["position"])
                pending, last = facts["pending"], facts["last"]
            except (KeyError, RuntimeError, TypeError, ValueError) as error:
                raise CheckpointError(
                    f"{folder}: cannot continue stage {stage.name} from its checkpoint ({error}); "
                    "expected one of this recipe, delete it to repeat the stage"
                ) from error
        path = self._folder / "log.jsonl" if self._world.leads else None
        self._curve = Curve(path, stage.name, self._trackers, last=last)
        self._curve.pending = pending
        self._began = time.monotonic() - self._at.seconds

    def to_the_end(
        self,
        signals: StopSignals,
        progress: Callable[[Progress], None] | None,
        save_seconds: float,
    ) -> dict[str, Any]:
        """Take the steps that are left, judge the average, and keep it."""
        stage, at = self._stage, self._at
        while True:
            seconds, save, stop = self._world.agree(
                time.monotonic() - self._began,
                time.monotonic() - self._saved > save_seconds,
                signals.caught,
            )
            at.seconds, done = seconds, self._done(seconds)
            if done >= 1:
                break
            if save or stop:
                self._save()
            if stop:
                raise Interrupted(self._farewell())
            self._report(signals)
            figures = self._step(done)
            if progress is not None:
                left = (1 - done) * seconds / done if done else None
                progress(Progress(stage.name, at.step, stage.steps, done, left, figures))
        return self._finish(signals)

    def _done(self, seconds: float) -> float:
        stage = self._stage
        done = self._at.step / stage.steps
        return done if stage.minutes is None else max(done, seconds / (stage.minutes * 60))

    def _step(self, done: float) -> dict[str, float]:
        stage, at = self._stage, self._at
        rng = np.random.default_rng([self._seed, stage.number, at.step])
        self._optimizer.clear()
        found = stage.accumulate(rng, self._world.share)
        figures = self._world.mean(found)
        self._world.average_gradients(list(self._optimizer.parameters.values()))
        norm = self._optimizer.step(_factor(stage, done), at.step)
        at.step += 1
        if norm is not None:
            at.in_a_row = 0
            self._curve.add({**figures, "gradient_norm": norm})
            return figures
        at.skipped, at.in_a_row = at.skipped + 1, at.in_a_row + 1
        _LOG.warning("%s step %d: gradient is not finite, step skipped", stage.name, at.step)
        if at.in_a_row > _MOST_SKIPPED:
            raise TrainingError(
                f"stage {stage.name}: no finite gradient in {at.in_a_row} steps in a row, at step "
                f"{at.step}; lower the rate, or train in fp32"
            )
        return figures

    def _report(self, signals: StopSignals) -> None:
        stage, at = self._stage, self._at
        if at.step <= self._curve.last or at.step == 0:
            return
        if at.step % stage.validate_every == 0:
            try:
                with signals.at_once():
                    self._write(self._judge())
            except KeyboardInterrupt:
                self._save()
                raise Interrupted(self._farewell()) from None
        elif at.step % stage.log_every == 0:
            self._write({})

    def _write(self, extra: Mapping[str, float]) -> None:
        counted = {"skipped": self._at.skipped} if self._at.skipped else {}
        self._curve.write(self._at.step, self._at.seconds, {**counted, **extra})

    def _judge(self) -> Mapping[str, float]:
        modes = {module: module.training for module in self._stage.module.modules()}
        with self._optimizer.averaged():
            self._stage.module.eval()
            try:
                return self._stage.validate()
            finally:
                for module, training in modes.items():
                    module.training = training

    def _finish(self, signals: StopSignals) -> dict[str, Any]:
        stage, at = self._stage, self._at
        try:
            with signals.at_once():
                final = dict(self._judge())
        except KeyboardInterrupt:
            self._save()
            raise Interrupted(self._farewell()) from None
        self._optimizer.settle()
        stage.module.eval()
        self._write(final)
        seconds = round(at.seconds, 1)
        figures = {"steps": at.step, "seconds": seconds, "skipped": at.skipped, **final}
        if self._world.leads:
            trained = {k: p.detach() for k, p in self._optimizer.parameters.items()}
            tensors = trained | _buffers(stage.module)
            facts = {"of": _identity(stage, self._seed), "figures": figures}
            write_result(self._folder, stage.name, tensors, facts)
        return figures

    def _save(self) -> None:
        tensors = self._optimizer.state()
        if self._world.leads:
            tensors |= {f"buffer.{k}": v for k, v in _buffers(self._stage.module).items()}
            facts = {
                "step": self._at.step,
                "of": _identity(self._stage, self._seed),
                "position": asdict(self._at),
                "pending": self._curve.pending,
                "last": self._curve.last,
            }
            write_checkpoint(self._folder / "checkpoint", self._stage.name, tensors, facts)
        self._saved = time.monotonic()

    def _farewell(self) -> str:
        return (
            f"stopped in stage {self._stage.name} after step {self._at.step} of "
            f"{self._stage.steps}; the checkpoint is in {self._folder / 'checkpoint'}"
        )


def _factor(stage: Stage, done: float) -> float:
    rise = min(1.0, (done + 1 / stage.steps) / stage.warmup) if stage.warmup else 1.0
    return rise * 0.5 * (1 + math.cos(math.pi * done))


def _identity(stage: Stage, seed: int) -> dict[str, Any]:
    return {"stage": stage.name, "number": stage.number, "steps": stage.steps, "seed": seed}


def _check_identity(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for key, value in expected.items():
        if found.get(key) != value:
            raise ValueError(f"{key} {found.get(key)}, expected {value}")


def _buffers(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    kept = module.state_dict()
    return {k: v.detach() for k, v in module.named_buffers() if k in kept}


def _load_buffers(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    for key, value in _buffers(module).items():
        value.copy_(tensors[f"buffer.{key}"])


def _restore_result(
    stage: Stage, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]
) -> dict[str, Any]:
    named = {name: p for group in stage.groups for name, p in group.parameters}
    named |= _buffers(stage.module)  # type: ignore[arg-type]
    try:
        with torch.no_grad():
            for key, value in named.items():
                value.copy_(tensors[key])
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"stage {stage.name} is done, but its weights do not fit ({error}); "
            "expected those of this recipe, name another folder"
        ) from error
    stage.module.eval()
    return dict(facts["figures"])
