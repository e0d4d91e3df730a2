"""The frame of a page: one file that loads nothing, in the light or the dark."""

from __future__ import annotations

from importlib import resources

from hwnas.report.markup import Markup, element

__all__ = ["document", "page_file", "section"]

# A browser that obeys this loads nothing at all, whatever plotly.js or a plug-in's name asks for.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)


def document(title: str, *body: str) -> str:
    """The whole page as text."""
    page = element("html", _head(title), element("body", *body), lang="en")
    return f"<!doctype html>\n{page}\n"


def section(title: str, *children: str) -> Markup:
    """One part of the page under its heading."""
    return element("section", element("h2", title), *children)


def page_file(name: str) -> str:
    """A style or a script of the page."""
    return resources.files("hwnas.report").joinpath("page", name).read_text(encoding="utf-8")


def _head(title: str) -> Markup:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(page_file("page.css"))),
    )
