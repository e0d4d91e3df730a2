"""The tables of the page; scripts only sort and filter them, so they can be read without."""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.records import Evaluation
from hwnas.report.data import ReportData, Rescoring
from hwnas.report.design_text import design_summary
from hwnas.report.markup import Markup, breakable, element, join
from hwnas.report.quantity import ShownCost, shown_costs
from hwnas.report.selection import selected_designs
from hwnas.report.table import best_first, rescored_text, rescored_title

__all__ = ["front_table", "glance_table", "plain_table"]

_MOST_REFERENCES = 4


def plain_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """A table of text, in a box that scrolls sideways on a narrow screen."""
    head = element("tr", *(element("th", head, scope="col") for head in heads))
    body = [element("tr", *(element("td", cell) for cell in row)) for row in rows]
    table = element("table", element("thead", head), element("tbody", *body))
    return element("div", table, class_="scroll")


def glance_table(data: ReportData) -> Markup:
    """The selected designs and the references, one under the other; many references are folded."""
    shown = shown_costs(data)
    designs = {design.arch_id: design for design in data.front_designs}
    rows = [
        _glance_row(label, designs[arch_id], shown, arch_id)
        for label, arch_id in selected_designs(data).items()
    ]
    references = [_glance_row(label, e, shown, "") for label, e in data.references.items()]
    if not rows and not references:
        return element("p", "No design to show.", class_="quiet")
    folded = references[_MOST_REFERENCES:]
    parts = [_glance(shown, [*rows, *references[:_MOST_REFERENCES]])]
    if folded:
        words = element("summary", f"{len(folded)} more references")
        parts.append(element("details", words, _glance(shown, folded)))
    return join(*parts)


def _glance(shown: Sequence[ShownCost], rows: Sequence[Markup]) -> Markup:
    heads = [element("th", "design", scope="col"), *(_cost_head(cost) for cost in shown)]
    head = element("thead", element("tr", *heads))
    return element("div", element("table", head, element("tbody", *rows)), class_="scroll glance")


def _glance_row(label: str, design: Evaluation, shown: Sequence[ShownCost], arch_id: str) -> Markup:
    name = element(
        "th",
        element("span", label, class_="label found" if arch_id else "label"),
        element("span", design_summary(design.genes), class_="summary"),
        scope="row",
    )
    cells = [
        element("td", _cost_text(cost, design), class_="number", data_title=cost.title)
        for cost in shown
    ]
    return element("tr", name, *cells, data_arch=arch_id or False)


def front_table(data: ReportData) -> Markup:
    """Every design of the front; cells carry the number to sort and filter by."""
    shown = shown_costs(data)
    labels = {arch_id: label for label, arch_id in selected_designs(data).items()}
    heads = [
        element("th", _sorter("design", ""), scope="col"),
        *(_cost_head(cost, sortable=True) for cost in shown),
        *(_rescored_head(rescoring) for rescoring in data.rescorings),
    ]
    rows = [
        element(
            "tr",
            _design_cell(design, labels.get(design.arch_id, "")),
            *(_cost_cell(cost, design) for cost in shown),
            *(_rescored_cell(rescoring, design) for rescoring in data.rescorings),
            data_arch=design.arch_id,
            tabindex="0",
        )
        for design in best_first(data)
    ]
    table = element(
        "table",
        element("thead", element("tr", *heads)),
        element("tbody", *rows),
        id="front-table",
    )
    return element("div", table, class_="scroll tall")


def _cost_head(cost: ShownCost, *, sortable: bool = False) -> Markup:
    unit = f"{cost.unit}, {cost.word}" if cost.unit else cost.word
    title = _sorter(cost.name, cost.name) if sortable else element("span", breakable(cost.name))
    return element("th", title, element("small", unit), scope="col", class_="number")


def _rescored_head(rescoring: Rescoring) -> Markup:
    title = _sorter(rescoring.name, rescoring.name)
    words = rescored_title(rescoring).removeprefix(rescoring.name).strip(", ")
    return element("th", title, element("small", words), scope="col", class_="number")


def _sorter(text: str, cost: str) -> Markup:
    return element("button", breakable(text), type="button", data_cost=cost)


def _design_cell(design: Evaluation, label: str) -> Markup:
    badge = element("span", label, class_="label found") if label else Markup()
    summary = element("span", design_summary(design.genes), class_="summary")
    return element("td", badge, summary, element("code", design.arch_id))


def _cost_cell(cost: ShownCost, design: Evaluation) -> Markup:
    value = design.values.get(cost.name)
    number = False if value is None else repr(value * cost.factor)
    return element("td", _cost_text(cost, design), class_="number", data_value=number)


def _cost_text(cost: ShownCost, design: Evaluation) -> Markup:
    """Value, then interval and a kind of number that differs from the column's, smaller."""
    value, _, interval = cost.text(design).partition(" ")
    word = cost.word_for(design) if value != "n/a" and cost.word_for(design) != cost.word else ""
    extra = " ".join(part for part in (interval, word) if part)
    return join(value, element("small", extra) if extra else Markup())


def _rescored_cell(rescoring: Rescoring, design: Evaluation) -> Markup:
    found = rescoring.values.get(design.arch_id)
    number = False if found is None else repr(found[0])
    text = rescored_text(rescoring, design.arch_id)
    return element("td", text, class_="number", data_value=number)
