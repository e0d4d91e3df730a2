"""report.html: one file that needs neither network nor server."""

from __future__ import annotations

from pathlib import Path

from hwnas.records.files import replace_text
from hwnas.report import sections
from hwnas.report.data import ReportData
from hwnas.report.document import document, page_file, section
from hwnas.report.exact import exact_front
from hwnas.report.markup import Markup, element, json_script
from hwnas.report.masks import masks
from hwnas.report.matrices import matrices
from hwnas.report.payload import MOST_DOTS, page_payload
from hwnas.report.tables import front_table, glance_table
from hwnas.report.verified import verified

__all__ = ["report_html", "write_html"]

_SCRIPTS = ("page.js", "front.js", "design.js", "trace.js", "table.js")


def write_html(data: ReportData, path: Path) -> None:
    """Write the page, about 5 MB, nearly all of it plotly.js; an older one is replaced whole.

    Raises:
        RunError: the file cannot be written; an older one is untouched then.
    """
    replace_text(path, report_html(data))


def report_html(data: ReportData) -> str:
    """The whole page as text."""
    return document(data.title, *_body(data))


def _body(data: ReportData) -> tuple[Markup, ...]:
    main = element(
        "main",
        sections.head(data),
        element("noscript", element("p", "The charts need JavaScript; the tables do not.")),
        section("At a glance", glance_table(data)),
        section("Pareto front" if len(data.objectives) > 1 else "Search", *_front(data)),
        *([section("Predicted and measured", *verified(data.verified))] if data.verified else []),
        *([section("The exact front", *exact_front(data.exact))] if data.exact else []),
        section("Design", *_design(data)) if data.front or data.references else Markup(),
        section("Masks", *masks(data.masks)) if data.masks else Markup(),
        section(f"Designs of the front ({len(data.front):,})", *_table(data)),
        section("Hypervolume", *_trace(data)) if data.hypervolume else Markup(),
        *(section(f"{found.name} by group", *matrices(found)) for found in data.matrices),
        section("What the numbers rest on", sections.basis(data)),
        element("section", sections.failures(data)) if data.failed else Markup(),
        section("Repeat this run", sections.repeat(data)),
    )
    return (main, json_script("report-data", page_payload(data)), *_scripts())


def _front(data: ReportData) -> tuple[Markup, ...]:
    if not data.succeeded:
        return (element("p", "No evaluation succeeded.", class_="quiet"),)
    some = len(data.succeeded) > MOST_DOTS
    thinned = " The gray dots are an even sample of all evaluated designs." if some else ""
    empty = "" if data.front else "The front is empty: no evaluated design meets the limits. "
    bars = any(design.intervals for design in data.front_designs)
    line = (
        "The line joins the designs that no other beats in these two costs"
        f"{'; its bars are the intervals of the cost models' if bars else ''}. "
    )
    return (
        element("div", id="front-controls", class_="controls"),
        element("div", id="front-chart", class_="chart"),
        element("p", id="front-picked", class_="picked", aria_live="polite"),
        sections.limits(data),
        element(
            "p",
            f"{empty}{line if len(data.objectives) > 1 else ''}"
            f"Click a design to see its blocks below.{thinned}",
            class_="quiet",
        ),
    )


def _design(data: ReportData) -> tuple[Markup, ...]:
    return (
        element("div", id="design-controls", class_="controls"),
        element("p", id="design-facts"),
        element("div", id="design-map"),
        element("div", id="design-parts"),
    )


def _table(data: ReportData) -> tuple[Markup, ...]:
    if not data.front:
        return (element("p", "The front is empty.", class_="quiet"),)
    return (element("div", id="table-controls", class_="controls"), front_table(data))


def _trace(data: ReportData) -> tuple[Markup, ...]:
    return (element("div", id="trace-chart", class_="chart low"), sections.trace_note(data))


def _scripts() -> tuple[Markup, ...]:
    from plotly.offline import get_plotlyjs

    texts = (get_plotlyjs(), *(page_file(name) for name in _SCRIPTS))
    return tuple(element("script", Markup(text)) for text in texts)
