"""The exact front beside what the search ended with, as words and a table."""

from __future__ import annotations

from hwnas.records.exact import ExactDesign, ExactStart
from hwnas.report.markup import Markup, element
from hwnas.report.quantity import format_number
from hwnas.report.tables import plain_table

__all__ = ["exact_front"]


def exact_front(found: ExactStart) -> tuple[Markup, ...]:
    """The section's parts: what was found and how far the search ended from it, the table."""
    shared = ""
    if found.shared:
        shared = (
            f" {', '.join(found.shared)} were gone through one combination after the other "
            f"({found.combinations:,}); the rest is an integer program."
        )
    words = (
        "No design of the space beats these, as far as the cost models are right. "
        f"Behind is what the search lacks within the same budget.{shared}"
    )
    return (
        *(element("p", sentence) for sentence in found.sentences()),
        element("p", words, class_="quiet"),
        _table(found),
    )


def _table(found: ExactStart) -> Markup:
    unit = f", {found.unit}" if found.unit else ""
    heads = [
        f"exact {found.objective}{unit}", f"the search{unit}", f"behind{unit}", "of the range",
        "in the first population", "left open", "design",
    ]  # fmt: skip
    if found.budget is not None:
        heads.insert(0, f"{found.budget}, {found.budget_unit}")
    return plain_table(heads, [_row(found, design) for design in found.designs])


def _row(found: ExactStart, design: ExactDesign) -> tuple[str, ...]:
    behind, extent = found.behind(design), found.extent
    cells = [
        format_number(design.values[found.objective]),
        "n/a" if design.found is None else format_number(design.found),
        "n/a" if behind is None else format_number(behind),
        "n/a" if behind is None or not extent else f"{100 * behind / extent:.2f} %",
        "yes" if design.given else "no",
        "proved" if design.gap <= 1e-4 else f"{100 * design.gap:.2g} %",
        design.arch_id,
    ]
    if found.budget is not None:
        cells.insert(0, format_number(design.values[found.budget]))
    return tuple(cells)
