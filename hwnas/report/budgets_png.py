"""The picture of several supernets at the same budgets: IoU against BitOPs, one line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hwnas.report.study_png import COLORS, MARKERS, new_figure, save_figure

__all__ = ["write_budgets_png"]

Point = tuple[float, float, float | None]
"""GBitOPs of the encoder, IoU in percent, and its deviation over runs."""


def write_budgets_png(curves: Mapping[str, Sequence[Point]], path: Path, *, title: str) -> None:
    """Draw each curve over a logarithmic axis of BitOPs; single points have no line.

    Raises:
        RunError: the file cannot be written.
    """
    figure = new_figure(8.2, 5.4)
    axis = figure.subplots()
    for i, (name, curve) in enumerate(curves.items()):
        points = sorted(curve)
        axis.errorbar(
            [p[0] for p in points],
            [p[1] for p in points],
            yerr=[p[2] or 0.0 for p in points],
            label=name,
            color=COLORS[i % len(COLORS)],
            marker=MARKERS[i % len(MARKERS)],
            linestyle="-" if i < len(COLORS) else "--",
            markersize=5,
            linewidth=1.3,
            elinewidth=0.7,
            capsize=2,
        )
    axis.set_xscale("log")
    axis.set_xlabel("GBitOPs of the encoder (log)")
    axis.set_ylabel("IoU, % (bars: standard deviation over runs)")
    axis.grid(visible=True, color="#eeeeee")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    save_figure(figure, path)
