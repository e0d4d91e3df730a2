"""Numbers as a reader wants them: three significant digits, a unit, the kind of number in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from hwnas.records import Evaluation
from hwnas.report.data import ReportData, ReportedCost

__all__ = ["ShownCost", "fidelity_word", "format_number", "format_with_error", "shown_costs"]

_BYTES = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))  # decimal, as data sheets count


def format_number(value: float) -> str:
    """Three significant digits; whole numbers as they are, from 1,000 on with separators.

    Below 0.001 and from ten million on in powers of ten: `1.23e-4`.
    """
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-3 or size >= 1e7:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    if size >= 999.5:
        return f"{value:,.0f}"
    if value == int(value):
        return f"{value:.0f}"
    return f"{value:.{decimals(value, digits=3)}f}"


def format_with_error(value: float, error: float) -> str:
    """A value and its standard error, to two significant digits of the error."""
    sign = " \N{PLUS-MINUS SIGN} "
    if not 1e-4 <= error < 100:
        return f"{format_number(value)}{sign}{format_number(error)}"
    places = decimals(error, digits=2)
    return f"{value:.{places}f}{sign}{error:.{places}f}"


def decimals(value: float, *, digits: int) -> int:
    """Places behind the point that show so many significant digits; `value` is not 0."""
    return max(0, digits - 1 - math.floor(math.log10(abs(value))))


def fidelity_word(fidelity: str) -> str:
    """The part of a fidelity that goes with every value: what precedes its parenthesis."""
    return fidelity.split("(", maxsplit=1)[0].strip() or "of unstated fidelity"


@dataclass(frozen=True, slots=True)
class ShownCost:
    """A cost with the unit it is shown in; recorded value x `factor` is the value shown.

    `usual` is the kind of number that most evaluations recorded for it, empty if none did.
    """

    cost: ReportedCost
    unit: str
    factor: float
    usual: str = ""

    @property
    def name(self) -> str:
        return self.cost.name

    @property
    def word(self) -> str:
        """Measured, estimated, ...: said beside every value."""
        return fidelity_word(self.cost.fidelity)

    @property
    def title(self) -> str:
        """For axes and heads of columns: `latency (ms), estimated`."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.name}{unit}, {self.word}"

    def text(self, evaluation: Evaluation) -> str:
        """Value and interval without the unit, `n/a` where it has none: `12.3 (9.8-15.4)`."""
        value = evaluation.values.get(self.name)
        if value is None:
            return "n/a"
        shown = format_number(value * self.factor)
        ends = evaluation.intervals.get(self.name)
        if ends is None:
            return shown
        low, high = (format_number(end * self.factor) for end in ends)
        return shown if low == high else f"{shown} ({low}\N{EN DASH}{high})"

    def word_for(self, evaluation: Evaluation) -> str:
        """What kind of number this one is, where the design knows better than the run."""
        own = evaluation.fidelity.get(self.name, self.usual)
        return self.word if own == self.usual else own

    def minimized(self, evaluation: Evaluation) -> float:
        """The recorded value such that less is better; for comparing, never for showing."""
        value = evaluation.values[self.name]
        return value if self.cost.direction == "min" else -value

    def bound(self, value: float) -> str:
        """A number that somebody stated, all its digits, with the unit it is shown in."""
        return f"{value * self.factor:,.6g} {self.unit}".strip()


def shown_costs(data: ReportData) -> tuple[ShownCost, ...]:
    """One unit for each cost, such that the largest value on the front has few digits."""
    front = data.front_designs or data.succeeded or tuple(data.references.values())
    shown = []
    for cost in data.costs:
        values = (e.values[cost.name] for e in front if cost.name in e.values)
        kinds = Counter(e.fidelity.get(cost.name, "") for e in data.succeeded)
        usual = kinds.most_common(1)[0][0] if kinds else ""
        shown.append(ShownCost(cost, *_scale(cost.unit, values), usual))
    return tuple(shown)


def _scale(unit: str, values: Iterable[float]) -> tuple[str, float]:
    """Unit to show and the factor to it; only bytes have larger units."""
    if unit.lower() not in ("b", "byte", "bytes"):
        return unit, 1.0
    largest = max((abs(value) for value in values), default=0.0)
    for name, size in _BYTES:
        if largest >= size:
            return name, 1 / size
    return "bytes", 1.0
