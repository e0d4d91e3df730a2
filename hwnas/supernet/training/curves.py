"""`log.jsonl`: what a stage reports, one line every few steps and at every validation.

All but `seconds` depends on the seed alone: a run that was killed and resumed leaves the lines of
an undisturbed one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from hwnas.records.files import replace_text

__all__ = ["Curve", "Tracker"]

_LOG = logging.getLogger(__name__)
_DIGITS = 6  # significant ones


class Tracker(Protocol):
    """Something that keeps curves: TensorBoard, Weights & Biases, MLflow."""

    def log(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        """Keep figures of a step."""

    def close(self) -> None:
        """Write what is not written yet."""


class Curve:
    """The lines of one stage; `pending` holds the sums and counts since the last line."""

    def __init__(
        self, path: Path | None, stage: str, trackers: Sequence[Tracker], *, last: int = -1
    ) -> None:
        """Continue after the line of step `last`; later lines of the stage are dropped.

        Without a path nothing is written, for a process that does not lead.
        """
        self._path, self._stage, self._trackers = path, stage, list(trackers)
        self.last = last
        self.pending: dict[str, list[float]] = {}
        if path is not None and path.is_file():
            _forget(path, stage, last)

    def add(self, figures: Mapping[str, float]) -> None:
        """Add the figures of a step to the means of the next line."""
        for key, value in figures.items():
            total = self.pending.setdefault(key, [0.0, 0.0])
            total[0] += value
            total[1] += 1

    def write(self, step: int, seconds: float, extra: Mapping[str, float]) -> None:
        """Write the means since the last line, and `extra`."""
        means = {
            k: float(f"{total / n:.{_DIGITS}g}") for k, (total, n) in sorted(self.pending.items())
        }
        figures = {**means, **extra}
        self.pending, self.last = {}, step
        if self._path is None:
            return
        line: dict[str, Any] = {"stage": self._stage, "step": step, "seconds": round(seconds, 1)}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**line, **figures}) + "\n")
        for tracker in list(self._trackers):
            try:
                tracker.log(self._stage, step, figures)
            except Exception as error:  # a server that is gone does not end the training
                _LOG.warning("%s: no more curves there (%s)", type(tracker).__name__, error)
                self._trackers.remove(tracker)


def _forget(path: Path, stage: str, last: int) -> None:
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # a line that a kill cut short
        if entry.get("stage") != stage or entry.get("step", 0) <= last:
            kept.append(line + "\n")
    replace_text(path, "".join(kept))
