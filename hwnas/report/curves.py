"""Curves over the steps of a training, as a drawing that needs no script.

Colors are variables of the page, so that the drawing follows its light or dark setting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hwnas.report.markup import Markup, element

__all__ = ["curves"]

_WIDTH, _HEIGHT = 520, 260
_LEFT, _RIGHT, _TOP, _FOOT = 58, 14, 12, 34
_COLORS = ("front", "baseline-0", "reference", "baseline-1", "baseline-2", "dots")
_DOTS = 12  # a shorter curve shows its points

Points = Sequence[tuple[float, float]]


def curves(found: Mapping[str, Points], *, across: str, label: str) -> Markup:
    """A chart of named curves of points (x, y), with a legend; `across` names the x axis.

    Curves without points are left out; `label` is read out where nothing is seen.
    """
    shown = {name: points for name, points in found.items() if points}
    if not shown:
        return element("p", "Nothing has been recorded.", class_="quiet")
    every = [point for points in shown.values() for point in points]
    chart = _Chart([x for x, _ in every], [y for _, y in every])
    marks = [*chart.grid(across)]
    for (_, points), color in zip(shown.items(), _cycled(len(shown)), strict=True):
        marks += chart.curve(points, f"var(--{color})")
    drawing = element(
        "svg", *marks, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=label
    )
    keys = [
        element("span", element("i", style=f"background: var(--{color})"), name)
        for name, color in zip(shown, _cycled(len(shown)), strict=True)
    ]
    return element("figure", drawing, element("figcaption", *keys, class_="legend"))


class _Chart:
    """Where values lie on the drawing; axes end at round numbers."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        from matplotlib.ticker import MaxNLocator

        across, up = MaxNLocator(6, integer=True), MaxNLocator(5, steps=[1, 2, 5, 10])
        self.x_ticks = [float(v) for v in across.tick_values(0, max(xs))]
        self.y_ticks = [float(v) for v in up.tick_values(min(ys), max(ys))]

    def x(self, value: float) -> float:
        low, high = self.x_ticks[0], self.x_ticks[-1]
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _FOOT)

    def grid(self, across: str) -> Iterable[Markup]:
        for tick in self.y_ticks:
            at = f"{self.y(tick):.1f}"
            yield element("line", x1=str(_LEFT), x2=str(_WIDTH - _RIGHT), y1=at, y2=at,
                          stroke="var(--line)")  # fmt: skip
            yield _text(_LEFT - 8, self.y(tick) + 4, f"{tick:g}", "end")
        for tick in self.x_ticks:
            yield _text(self.x(tick), _HEIGHT - _FOOT + 16, f"{tick:,.12g}", "middle")
        yield _text(_WIDTH - _RIGHT, _HEIGHT - 2, across, "end")

    def curve(self, points: Points, color: str) -> list[Markup]:
        places = [(self.x(x), self.y(y)) for x, y in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        marks = [element("polyline", points=line, fill="none", stroke=color, stroke_width="1.8")]
        if len(places) <= _DOTS:
            marks += [
                element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="3", fill=color)
                for x, y in places
            ]
        return marks


def _cycled(count: int) -> list[str]:
    return [_COLORS[i % len(_COLORS)] for i in range(count)]


def _text(x: float, y: float, words: str, anchor: str) -> Markup:
    return element(
        "text", words, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, fill="var(--quiet)",
        font_size="12",
    )  # fmt: skip
