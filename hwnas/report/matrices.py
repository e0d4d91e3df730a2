"""What each group of a network costs at each of its options, as maps in shades."""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.cost.matrices import CostMatrices, ErrorMatrix, level_of
from hwnas.report.markup import Markup, element
from hwnas.report.quantity import format_number

__all__ = ["matrices"]

_STRONG = 0.55  # shades from which ink is light


def matrices(found: CostMatrices) -> tuple[Markup, ...]:
    """The section's parts: what the numbers are, one map for each kind of group."""
    words = (
        f"What each group adds to {found.name} ({found.unit}) by itself, {found.note}. Darker is "
        "more, on one logarithmic scale for all maps; an empty cell adds nothing."
    )
    known = [table.ends for table in found.tables if table.ends is not None]
    ends = (min(e[0] for e in known), max(e[1] for e in known)) if known else (0.0, 0.0)
    return (
        element("p", words, class_="quiet"),
        *(element("details", *_folded(table, ends), open=i == 0)
          for i, table in enumerate(found.tables)),
    )  # fmt: skip


def _folded(table: ErrorMatrix, ends: tuple[float, float]) -> Sequence[Markup]:
    heads = [element("th", "", scope="col")]
    heads += [element("th", column, scope="col") for column in table.columns]
    rows = [
        element("tr", element("th", name, scope="row"), *(_cell(error, ends) for error in errors))
        for name, errors in table.rows.items()
    ]
    drawn = element(
        "table", element("thead", element("tr", *heads)), element("tbody", *rows), class_="map"
    )
    return element("summary", table.title), element("div", drawn, class_="scroll")


def _cell(error: float, ends: tuple[float, float]) -> Markup:
    if error <= 0:
        return element("td", "", class_="absent")
    level = level_of(error, ends)
    strong = " strong" if level > _STRONG else ""
    return element(
        "td", format_number(error), class_=f"level{strong}", style=f"--level: {level:.2f}"
    )
