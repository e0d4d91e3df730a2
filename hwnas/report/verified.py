"""Predicted against measured, as a drawing without a script and as a table."""

from __future__ import annotations

from hwnas.records import Verification, VerifiedDesign
from hwnas.report.markup import Markup, element
from hwnas.report.quantity import fidelity_word, format_number
from hwnas.report.tables import plain_table

__all__ = ["verified"]

_WIDTH, _ROW, _LEFT, _RIGHT, _FOOT = 720, 34, 170, 24, 30
_TICKS = 5


def verified(found: Verification) -> tuple[Markup, ...]:
    """The section's parts: what was done, the drawing, the table."""
    kind = fidelity_word(found.fidelity)
    prompts = "1 prompt" if found.prompts == 1 else f"{found.prompts} prompts"
    words = (
        f"{found.cost} in {found.unit} for one image and {prompts}, {kind} during the search and "
        f"measured after it by {found.runner} on {found.fingerprint}. Ring: {kind}, with its "
        "interval; dot: measured; a square: measured, and a limit is broken."
    )
    parts = [element("p", words, class_="quiet")]
    if found.measured:
        parts.append(element("div", _drawing(found), class_="scroll"))
    return (*parts, _table(found, kind))


def _table(found: Verification, kind: str) -> Markup:
    heads = ("design", f"{kind}, {found.unit}", "interval", f"measured, {found.unit}",
             "difference", "in the interval", "limits")  # fmt: skip
    return plain_table(heads, [_row(design) for design in found.designs])


def _row(design: VerifiedDesign) -> tuple[str, ...]:
    inside = {True: "yes", False: "no", None: "n/a"}[design.inside]
    if design.measured is None:
        measured, difference, limits = "failed", "n/a", design.message
    else:
        measured = format_number(design.measured) + (" (noisy)" * (design.status == "noisy"))
        difference = "n/a" if design.difference_pct is None else f"{design.difference_pct:+.1f} %"
        limits = "; ".join(f"{limit} is broken" for limit in design.broken) or "kept"
    return (
        design.arch_id, format_number(design.predicted), _interval(design), measured, difference,
        inside, limits,
    )  # fmt: skip


def _interval(design: VerifiedDesign) -> str:
    if design.lo is None or design.hi is None:
        return "n/a"
    return f"{format_number(design.lo)}\N{EN DASH}{format_number(design.hi)}"


def _drawing(found: Verification) -> Markup:
    """One line a design from 0 to the largest number; colors are those of the page."""
    shown = found.measured
    largest = max(max(d.measured or 0.0, d.predicted, d.hi or 0.0) for d in shown)
    step = _step(largest)
    scale = (_WIDTH - _LEFT - _RIGHT) / largest
    height = len(shown) * _ROW + _FOOT
    marks: list[Markup] = []
    tick = 0.0
    while tick <= largest:
        x = _LEFT + tick * scale
        marks.append(_line(x, 4, x, height - _FOOT, "var(--line)", 1))
        marks.append(_text(x, height - 10, f"{tick:g}", "middle"))
        tick = round(tick + step, 12)
    for number, design in enumerate(shown):
        marks += _marks(design, (number + 0.5) * _ROW, scale)
    return element(
        "svg",
        *marks,
        viewBox=f"0 0 {_WIDTH} {height}",
        width=str(_WIDTH),
        height=str(height),
        role="img",
        aria_label=f"{found.cost} of {len(shown)} designs, predicted and measured",
    )


def _marks(design: VerifiedDesign, y: float, scale: float) -> list[Markup]:
    marks = [_text(_LEFT - 12, y + 4, design.arch_id, "end")]
    at = _LEFT + design.predicted * scale
    if design.lo is not None and design.hi is not None:
        ends = (_LEFT + design.lo * scale, _LEFT + design.hi * scale)
        marks.append(_line(ends[0], y, ends[1], y, "var(--dots)", 3))
    ring = {"fill": "var(--ground)", "stroke": "var(--front)", "stroke_width": "2"}
    marks.append(element("circle", cx=f"{at:.1f}", cy=f"{y:g}", r="6", **ring))
    measured = _LEFT + (design.measured or 0.0) * scale
    if design.broken:
        place = {"x": f"{measured - 6:.1f}", "y": f"{y - 6:g}", "width": "12", "height": "12"}
        marks.append(element("rect", fill="var(--baseline-0)", **place))
    else:
        marks.append(
            element("circle", cx=f"{measured:.1f}", cy=f"{y:g}", r="4.5", fill="var(--ink)")
        )
    return marks


def _line(x1: float, y1: float, x2: float, y2: float, color: str, width: float) -> Markup:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    places = {name: f"{value:.1f}" for name, value in ends.items()}
    return element("line", stroke=color, stroke_width=f"{width:g}", **places)


def _text(x: float, y: float, words: str, anchor: str) -> Markup:
    return element(
        "text", words, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, fill="var(--quiet)",
        font_size="12",
    )  # fmt: skip


def _step(largest: float) -> float:
    """A round distance of ticks: 1, 2 or 5 times a power of ten."""
    raw = largest / _TICKS
    power = 10.0 ** (len(f"{int(raw)}") - 1) if raw >= 1 else 1.0
    while power > raw:
        power /= 10
    return power * max(factor for factor in (1, 2, 5) if factor * power <= raw)
