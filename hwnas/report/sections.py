"""What the page says in words around its charts."""

from __future__ import annotations

from collections import Counter

from hwnas.report.data import ReportData, ReportedCost
from hwnas.report.markup import Markup, element, join
from hwnas.report.quantity import ShownCost, fidelity_word, format_number, shown_costs
from hwnas.report.tables import plain_table

__all__ = ["basis", "failures", "head", "limits", "repeat", "trace_note"]

_MOST_FAILURES = 20
_BETTER = {"min": "lower", "max": "higher"}


def head(data: ReportData) -> Markup:
    """Title, the run in one line, what must not be missed, and what kind of numbers follow."""
    facts = " \N{MIDDLE DOT} ".join(fact for fact in _facts(data) if fact)
    return element(
        "header",
        element("h1", data.title),
        element("p", facts, class_="quiet"),
        *(element("p", note, class_="note") for note in data.notes),
        element("p", *_kinds(data), class_="kinds"),
    )


def _facts(data: ReportData) -> tuple[str, ...]:
    size = f"{data.space_size:,}" if data.space_size < 1e9 else f"{_power(data.space_size)}"
    device = f"{data.device_name} ({data.device_key})" if data.device_name else data.device_key
    failed = f", {len(data.failed):,} failed" if data.failed else ""
    return (
        f"{data.space_name}, {'' if data.size_is_exact else 'up to '}{size} designs",
        device or "no device",
        f"{len(data.evaluations):,} evaluations{failed}",
        f"{len(data.front):,} on the front",
        "" if data.seconds is None else f"{format_number(data.seconds)} s",
        data.created,
    )


def _power(size: int) -> str:
    """A large whole number as `3.1e21`; it may be too large for a float."""
    digits = str(size)
    return f"{digits[0]}.{digits[1]}e{len(digits) - 1}"


def _kinds(data: ReportData) -> list[str]:
    """One phrase for each cost: its name in bold and what kind of number it is."""
    parts: list[str] = []
    for cost in data.costs:
        words = cost.fidelity or fidelity_word("")
        parts += [element("strong", cost.name), f" is {words}. "]
    return parts


def limits(data: ReportData) -> Markup:
    """Each limit, on which end of the interval it holds, and how many front designs meet it."""
    if not data.limits:
        return Markup()
    shown = {cost.name: cost for cost in shown_costs(data)}
    sentences = []
    for limit in data.limits:
        cost = shown.get(limit.name)
        bound = cost.bound(limit.bound) if cost else f"{limit.bound:,.6g}"
        sentences.append(
            element("li", element("strong", f"{limit.name} {limit.op} {bound}"), _held(limit.on))
        )
    return element("ul", *sentences, class_="limits")


def _held(on: str) -> str:
    if on == "pessimistic":
        return ", a hard limit, held against the pessimistic end of the interval"
    return ", a hard limit, held against the value itself"


def trace_note(data: ReportData) -> Markup:
    """The reference point of the hypervolume, in the units shown."""
    shown = {cost.name: cost for cost in shown_costs(data)}
    point = [
        f"{name} {shown[name].bound(value) if name in shown else format_number(value)}"
        for name, value in data.reference_point.items()
    ]
    where = f"Reference point: {', '.join(point)}. " if point else ""
    return element("p", f"{where}Higher is better.", class_="quiet")


def basis(data: ReportData) -> Markup:
    """Every cost with its kind and notes, the re-scored qualities, the figures of the device."""
    rows = [_cost_row(cost) for cost in shown_costs(data)]
    rows += [
        (r.name, r.unit or "ratio", _BETTER[r.direction], "re-scored", r.note)
        for r in data.rescorings
    ]
    parts = [plain_table(("cost", "unit", "better", "kind of number", "note"), rows)]
    if data.device_figures:
        figures = [(f.name, f.value, f.status, f.source) for f in data.device_figures]
        parts += [
            element("h3", f"Figures of {data.device_key or 'the device'} that need care"),
            element(
                "p",
                "Nobody has checked these on the device; what is computed from them is as good "
                "as they are.",
                class_="quiet",
            ),
            plain_table(("figure", "value", "status", "source"), figures),
        ]
    return join(*parts)


def _cost_row(shown: ShownCost) -> tuple[str, ...]:
    cost: ReportedCost = shown.cost
    role = "" if cost.is_objective else "not an objective"
    note = "; ".join(part for part in (cost.note, role) if part)
    kind = cost.fidelity or fidelity_word("")
    return (cost.name, shown.unit or "ratio", _BETTER[cost.direction], kind, note)


def failures(data: ReportData) -> Markup:
    """Failed evaluations, equal messages counted."""
    if not data.failed:
        return Markup()
    counts = Counter(evaluation.message for evaluation in data.failed)
    first = {e.message: e.arch_id for e in reversed(data.failed)}
    rows = [(f"{n:,}", first[text], text) for text, n in counts.most_common(_MOST_FAILURES)]
    left = len(counts) - len(rows)
    more = element("p", f"{left:,} more kinds of message.") if left > 0 else Markup()
    return join(
        element("h2", f"Failed evaluations ({len(data.failed):,})"),
        plain_table(("times", "first design", "message"), rows),
        more,
    )


def repeat(data: ReportData) -> Markup:
    """The command, seeds, versions and the resolved config."""
    seeds = ", ".join(f"{name} {seed}" for name, seed in data.seeds.items())
    versions = ", ".join(f"{name} {version}" for name, version in data.versions.items())
    facts = [("seeds", seeds), ("versions", versions)]
    return join(
        element("pre", data.command, class_="command"),
        *(element("p", element("strong", k), f" {v}", class_="quiet") for k, v in facts if v),
        element(
            "details",
            element("summary", "resolved config"),
            element("pre", data.config),
        ),
    )
