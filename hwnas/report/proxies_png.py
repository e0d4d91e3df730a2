"""Pictures of a study of proxies: how well each orders subnets, and its values against quality."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwnas.report.png import BLUE, COLORS, new_figure, save_png

__all__ = ["Dot", "write_proxies_png", "write_scatter_png"]

_MARKERS = "osD"
_ACROSS = 4
_WIDEST_RATIO = 30.0  # values that span more than this are drawn on a logarithmic axis

Float = NDArray[np.float64]
Dot: TypeAlias = tuple[float, float, float]
"""A figure with the ends of its interval, which are the figure itself where none is known."""


def write_proxies_png(
    models: Mapping[str, Mapping[str, Dot]],
    baselines: Sequence[str],
    path: Path,
    *,
    title: str,
) -> None:
    """Draw the figures of each model on a line of its own, baselines in italics.

    Raises:
        RunError: the file cannot be written.
    """
    figure = new_figure(8.2, 1.9 + 0.42 * len(models))
    axis = figure.subplots()
    kinds = list(dict.fromkeys(kind for dots in models.values() for kind in dots))
    for k, kind in enumerate(kinds):
        shown = [(i, dots[kind]) for i, dots in enumerate(models.values()) if kind in dots]
        values = [value for _, (value, _, _) in shown]
        # a percentile interval need not hold its value
        below = [max(value - lo, 0.0) for _, (value, lo, _) in shown]
        above = [max(hi - value, 0.0) for _, (value, _, hi) in shown]
        axis.errorbar(
            values, [i + 0.2 * (k - (len(kinds) - 1) / 2) for i, _ in shown], xerr=(below, above),
            label=kind, color=COLORS[k % 3], marker=_MARKERS[k % 3], linestyle="none",
            markersize=5, elinewidth=0.9, capsize=2,
        )  # fmt: skip
    axis.axvline(0, color="#555555", linewidth=0.8)
    axis.set_yticks(range(len(models)), list(models))
    for label in axis.get_yticklabels():
        if label.get_text() in baselines:
            label.set_fontstyle("italic")
    axis.invert_yaxis()
    axis.set_xlabel("rank correlation with IoU (bars: 95 % bootstrap intervals)")
    axis.grid(visible=True, axis="x", color="#eeeeee")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    save_png(figure, path)


def write_scatter_png(
    models: Mapping[str, Float], quality: Float, path: Path, *, color: Float | None, title: str
) -> None:
    """Draw quality (n,), in percent, against the values (n,) of each model; color is BitOPs.

    Raises:
        RunError: the file cannot be written.
    """
    from matplotlib.colors import LogNorm

    across = min(_ACROSS, len(models))
    down = math.ceil(len(models) / across)
    figure = new_figure(2.6 * across + 1.0, 2.4 * down + 0.6)
    axes = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    paint: dict[str, Any] = {"c": BLUE}
    if color is not None:
        norm = LogNorm(float(color.min()), float(color.max()))
        paint = {"c": color, "norm": norm, "cmap": "viridis"}
    points = None
    for axis, (name, values) in zip(axes, models.items(), strict=False):
        points = axis.scatter(values, quality, s=6, linewidths=0, **paint)
        axis.set_xlabel(name, fontsize=8)
        axis.tick_params(labelsize=7)
        if values.min() > 0 and values.max() > _WIDEST_RATIO * values.min():
            axis.set_xscale("log")
    for axis in axes[len(models) :]:
        axis.set_visible(False)
    axes[0].set_ylabel("IoU, %", fontsize=8)
    if color is not None and points is not None:
        bar = figure.colorbar(points, ax=list(axes), pad=0.01)
        bar.set_label("GBitOPs (log)", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    save_png(figure, path)
