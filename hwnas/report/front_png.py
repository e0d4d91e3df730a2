"""The front as a picture file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas.records import Evaluation
from hwnas.report.data import ReportData
from hwnas.report.png import BLUE, GRAY, GREEN, ORANGE, PURPLE, VERMILION, new_figure, save_png
from hwnas.report.quantity import ShownCost, shown_costs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["write_png"]

_DPI = 150
_PANEL_INCHES = (6.4, 5.2)
_MOST_PANELS = 3
_MOST_LETTERS = 60
_FRONT, _REFERENCE, _BASELINES = BLUE, GREEN, (VERMILION, PURPLE, ORANGE)


def write_png(data: ReportData, path: Path) -> None:
    """Draw the front, one panel of 960 x 780 pixels for each pair of the first three objectives.

    A single objective is drawn over the order of evaluation. Axes say unit and kind of number.

    Raises:
        RunError: the file cannot be written; an older one is untouched then.
    """
    shown = [cost for cost in shown_costs(data) if cost.cost.is_objective]
    pairs = [(x, y) for y, x in combinations(shown[:_MOST_PANELS], 2)]
    panels = max(1, len(pairs))
    width, height = _PANEL_INCHES
    figure = new_figure(width * panels, height, dpi=_DPI)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    if pairs:
        for axis, (x, y) in zip(axes, pairs, strict=True):
            _draw_pair(axis, data, x, y)
    else:
        _draw_single(axes[0], data, shown[0])
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        columns = min(len(labels), 3 * panels)
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    figure.suptitle(_plain(data.title), fontsize=11, x=0.01, ha="left")
    save_png(figure, path)


def _draw_pair(axis: Axes, data: ReportData, x: ShownCost, y: ShownCost) -> None:
    _scatter(axis, data.succeeded, (x, y), s=6, color=GRAY, alpha=0.35, label="evaluated")
    for index, (label, evaluations) in enumerate(data.baselines.items()):
        color = _BASELINES[index % len(_BASELINES)]
        _scatter(axis, evaluations, (x, y), s=26, color=color, marker="s", label=label)
    references = tuple(data.references.values())
    _scatter(axis, references, (x, y), s=38, color=_REFERENCE, marker="D", label="references")
    _scatter(axis, data.front_designs, (x, y), s=30, color=_FRONT, label="front", zorder=3)
    _intervals(axis, _staircase(data.front_designs, x, y), x, y)
    _scale(axis, data, x, y)
    _limits(axis, data, x, y)
    _dress(axis, x.title, y.title)
    if not data.front:
        axis.text(0.5, 0.5, "the front is empty", transform=axis.transAxes, ha="center")


def _draw_single(axis: Axes, data: ReportData, cost: ShownCost) -> None:
    for evaluations, color, label in (
        (data.succeeded, GRAY, "evaluated"),
        (data.front_designs, _FRONT, "best"),
    ):
        order = [evaluation.index + 1 for evaluation in evaluations]
        values = [evaluation.values[cost.name] * cost.factor for evaluation in evaluations]
        if order:
            axis.scatter(order, values, s=18, color=color, label=label)
    _dress(axis, "evaluation", cost.title)


def _scatter(
    axis: Axes,
    evaluations: Sequence[Evaluation],
    pair: tuple[ShownCost, ShownCost],
    *,
    label: str,
    **style: Any,
) -> None:
    points = _points(evaluations, *pair)
    if points:
        xs, ys = zip(*points, strict=True)
        axis.scatter(xs, ys, label=_plain(label), linewidths=0, **style)


def _points(
    evaluations: Sequence[Evaluation], x: ShownCost, y: ShownCost
) -> list[tuple[float, float]]:
    return [
        (e.values[x.name] * x.factor, e.values[y.name] * y.factor)
        for e in evaluations
        if x.name in e.values and y.name in e.values
    ]


def _staircase(designs: Sequence[Evaluation], x: ShownCost, y: ShownCost) -> list[Evaluation]:
    """The designs that no other beats in this pair alone, along x."""
    best = math.inf
    kept = []
    for design in sorted(designs, key=lambda d: (x.minimized(d), y.minimized(d))):
        if y.minimized(design) < best:
            best = y.minimized(design)
            kept.append(design)
    return kept


def _intervals(axis: Axes, designs: Sequence[Evaluation], x: ShownCost, y: ShownCost) -> None:
    style: dict[str, Any] = {"color": _FRONT, "alpha": 0.4, "linewidth": 0.9}
    points = _points(designs, x, y)
    if points:
        axis.plot(*zip(*points, strict=True), drawstyle="steps-post", **style)
    for design in designs:
        here_x, here_y = design.values[x.name] * x.factor, design.values[y.name] * y.factor
        if x.name in design.intervals:
            low, high = design.intervals[x.name]
            axis.plot((low * x.factor, high * x.factor), (here_y, here_y), **style)
        if y.name in design.intervals:
            low, high = design.intervals[y.name]
            axis.plot((here_x, here_x), (low * y.factor, high * y.factor), **style)


def _limits(axis: Axes, data: ReportData, x: ShownCost, y: ShownCost) -> None:
    style: dict[str, Any] = {"color": "black", "linestyle": (0, (4, 3)), "linewidth": 1}
    for limit in data.limits:
        if limit.name == x.name and _near(limit.bound * x.factor, axis.get_xlim()):
            axis.axvline(limit.bound * x.factor, **style)
        if limit.name == y.name and _near(limit.bound * y.factor, axis.get_ylim()):
            axis.axhline(limit.bound * y.factor, **style)


def _near(bound: float, ends: tuple[float, float]) -> bool:
    """Whether a line there leaves the designs at least half of the axis."""
    low, high = ends
    return low - (high - low) < bound < high + (high - low)


def _scale(axis: Axes, data: ReportData, x: ShownCost, y: ShownCost) -> None:
    drawn = (*data.front_designs, *data.references.values())
    for cost, set_scale in ((x, axis.set_xscale), (y, axis.set_yscale)):
        values = [e.values[cost.name] for e in drawn if cost.name in e.values]
        if values and min(values) > 0 and max(values) / min(values) > 50:
            set_scale("log")


def _dress(axis: Axes, x_title: str, y_title: str) -> None:
    axis.set_xlabel(_plain(x_title))
    axis.set_ylabel(_plain(y_title))
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(visible=True, color="#eeeeee")
    axis.set_axisbelow(True)
    if not math.isfinite(sum(axis.get_xlim())):
        axis.set_xlim(0, 1)


def _plain(text: str) -> str:
    """Text in which matplotlib finds no formula and no hidden label, of bounded length."""
    short = text if len(text) <= _MOST_LETTERS else text[: _MOST_LETTERS - 3] + "..."
    return short.replace("$", r"\$").lstrip("_")
