"""Show the steps of a training stage on the watch of a workflow."""

from __future__ import annotations

from collections.abc import Callable

from hwnas.supernet.training.loop import Progress
from hwnas.workflows.watch import Watch

__all__ = ["stage_watch"]


def stage_watch(watch: Watch, *, by_clock: bool) -> Callable[[Progress], None]:
    """A progress callback for `run_stage` that begins a bar for every stage.

    Of the figures the losses are shown. A stage that ends `by_clock` has no known number of
    steps; the minutes left are shown instead.
    """
    begun: list[str] = []

    def show(progress: Progress) -> None:
        if progress.stage not in begun:
            begun.append(progress.stage)
            watch.begin(f"stage {progress.stage}", None if by_clock else progress.steps)
        shown = {k: v for k, v in progress.figures.items() if "loss" in k}
        if by_clock and progress.seconds_left is not None:
            shown["minutes left"] = progress.seconds_left / 60
        watch.advance(progress.step, **shown)

    return show
