"""Progress on standard error: a bar on a terminal, plain lines every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hwnas.cli.output import is_terminal, note

if TYPE_CHECKING:
    from rich.progress import Progress

    from hwnas.workflows.watch import Watch

__all__ = ["progress"]

_LINE_SECONDS = 5.0


@contextmanager
def progress(*, quiet: bool) -> Iterator[Watch]:
    """Yield the watch that fits where the output goes."""
    if quiet:
        from hwnas.workflows.watch import Silent

        yield Silent()
    elif is_terminal():
        with _bars() as bars:
            yield _BarWatch(bars)
    else:
        yield _LineWatch()


def _bars() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


class _BarWatch:
    """A rich progress bar for each stage."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task: int | None = None

    def begin(self, stage: str, total: int | None) -> None:
        self._task = int(self._bars.add_task(stage, total=total, figures=""))

    def advance(self, done: int, **figures: float) -> None:
        if self._task is not None:
            from rich.progress import TaskID

            self._bars.update(TaskID(self._task), completed=done, figures=_text(figures))

    def remark(self, sentence: str) -> None:
        self._bars.console.print(sentence, markup=False, highlight=False)


class _LineWatch:
    """Lines that a log file can keep, not more often than every few seconds."""

    def __init__(self) -> None:
        self._stage = ""
        self._total: int | None = None
        self._began = self._printed = time.monotonic()

    def begin(self, stage: str, total: int | None) -> None:
        self._stage, self._total = stage, total
        self._began = self._printed = time.monotonic()
        note(f"{stage} …")

    def advance(self, done: int, **figures: float) -> None:
        now = time.monotonic()
        finished = done == self._total
        if now - self._printed < _LINE_SECONDS and not finished:
            return
        self._printed = now
        left = ""
        if self._total and done and not finished:
            left = f"  {(now - self._began) * (self._total - done) / done:.0f} s left"
        total = f"/{self._total}" if self._total else ""
        note(f"{self._stage}: {done}{total}  {_text(figures)}{left}")

    def remark(self, sentence: str) -> None:
        note(sentence)


def _text(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
