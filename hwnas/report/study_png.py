"""Pictures of an effective-search-space study: what each axis costs, and the sensitivity matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwnas.report.png import COLORS, new_figure, save_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_axes_png", "write_budgets_png", "write_matrix_png"]

_MARKERS = "os^Dv*PX"

Curve = Sequence[tuple[str, float, float, float | None]]
"""Points of an axis, from the largest value on: value, share of BitOPs, IoU, standard error."""

Point = tuple[float, float, float | None]
"""GBitOPs of the encoder, IoU in percent, and its deviation over runs."""


def write_axes_png(
    curves: Mapping[str, Curve], path: Path, *, title: str, floor: float | None = None
) -> None:
    """Draw IoU against the share of BitOPs that is left, one line an axis; `floor` is dotted.

    Raises:
        RunError: the file cannot be written.
    """
    figure = new_figure(8.2, 5.4)
    axis = figure.subplots()
    for i, (name, curve) in enumerate(curves.items()):
        shares = [100 * point[1] for point in curve]
        _draw_line(axis, i, name, shares, [(p[2], p[3]) for p in curve])
        for (value, _, iou, _), share in list(zip(curve, shares, strict=True))[1:]:
            axis.annotate(
                value, (share, iou), xytext=(3, 4), textcoords="offset points", fontsize=7,
                color=COLORS[i % len(COLORS)],
            )  # fmt: skip
    if floor is not None:
        axis.axhline(floor, color="#555555", linestyle=":", linewidth=1, label="zero embedding")
    axis.set_xscale("log", base=2)
    ticks = [t for t in (100, 50, 25, 12.5, 6.25, 3.125) if t >= min(axis.get_xlim())]
    axis.set_xticks(ticks, [f"{t:g} %" for t in ticks])
    axis.set_xlabel("BitOPs of the encoder, share of the largest network (log)")
    axis.set_ylabel("IoU (bars: standard error of the loss over images)")
    _plain(axis)
    _finish(figure, title, path)


def write_budgets_png(
    panels: Mapping[str, Mapping[str, Sequence[Point]]], path: Path, *, title: str
) -> None:
    """Draw IoU against BitOPs on a logarithmic axis, a panel for each prompt, a line a supernet.

    Raises:
        RunError: the file cannot be written.
    """
    figure = new_figure(3.6 + 4.6 * len(panels), 5.4)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (prompt, curves) in zip(axes, panels.items(), strict=True):
        for i, (name, curve) in enumerate(curves.items()):
            points = sorted(curve)
            label = name if axis is axes[0] else "_"  # one line of the legend for all panels
            _draw_line(axis, i, label, [p[0] for p in points], [(p[1], p[2]) for p in points])
        axis.set_xscale("log")
        axis.set_xlabel("GBitOPs of the encoder (log)")
        axis.set_title(prompt, fontsize=9)
        _plain(axis)
    axes[0].set_ylabel("IoU, % (bars: standard deviation over runs)")
    _finish(figure, title, path)


def write_matrix_png(
    values: NDArray[np.float64], rows: Sequence[str], columns: Sequence[str], path: Path,
    *, title: str, unit: str,
) -> None:  # fmt: skip
    """Draw a matrix as colors on a logarithmic scale; cells that are not a number stay white.

    Values below a ten-thousandth of the largest, zero and negative ones included, have the color
    of the low end.

    Raises:
        RunError: the file cannot be written.
    """
    from matplotlib.colors import LogNorm

    figure = new_figure(2.4 + 0.27 * len(columns), 2.2 + 0.27 * len(rows))
    axis = figure.subplots()
    finite = values[np.isfinite(values)]
    high = max(float(finite.max()) if finite.size else 1.0, 1e-9)
    low = max(high * 1e-4, float(finite[finite > 0].min()) if (finite > 0).any() else 0.0)
    shown = np.where(np.isfinite(values), np.maximum(values, low), np.nan)
    scale = LogNorm(vmin=min(low, high / 2), vmax=high)
    image = axis.imshow(shown, norm=scale, cmap="viridis", aspect="auto")
    axis.set_xticks(range(len(columns)), columns, rotation=90, fontsize=7)
    axis.set_yticks(range(len(rows)), rows, fontsize=7)
    axis.tick_params(length=0)
    for edge in _groups(columns):
        axis.axvline(edge - 0.5, color="white", linewidth=1.5)
    bar = figure.colorbar(image, ax=axis, pad=0.01)
    bar.set_label(unit, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    save_png(figure, path)


def _draw_line(
    axis: Any,
    number: int,
    label: str,
    x: Sequence[float],
    points: Sequence[tuple[float, float | None]],
) -> None:
    """Draw line `number` of a picture through values with their errors, None where unknown."""
    axis.errorbar(
        x, [value for value, _ in points], yerr=[error or 0.0 for _, error in points], label=label,
        color=COLORS[number % len(COLORS)], marker=_MARKERS[number % len(_MARKERS)],
        linestyle="-" if number < len(COLORS) else "--", markersize=5, linewidth=1.3,
        elinewidth=0.7, capsize=2,
    )  # fmt: skip


def _plain(axis: Any) -> None:
    axis.grid(visible=True, color="#eeeeee")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _finish(figure: Figure, title: str, path: Path) -> None:
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    save_png(figure, path)


def _groups(columns: Sequence[str]) -> list[int]:
    """Where the part of the name before the blank changes."""
    heads = [name.split(" ")[0] for name in columns]
    return [i for i in range(1, len(heads)) if heads[i] != heads[i - 1]]
