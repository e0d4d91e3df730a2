"""Printing: tables for people, JSON for programs, plain lines where there is no terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

import typer

__all__ = ["is_terminal", "note", "print_json", "print_table"]


def is_terminal() -> bool:
    """Whether a person looks at standard error as it is written."""
    return sys.stderr.isatty()


def note(message: str) -> None:
    """Print a remark on standard error, so that standard output stays parseable."""
    typer.echo(message, err=True)


def print_json(value: object) -> None:
    """Print one JSON document on standard output."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(rows: Sequence[Mapping[str, object]], *, title: str | None = None) -> None:
    """Print rows that share their keys as an aligned table.

    On a terminal rich draws it; else plain columns that `cut` and `awk` can read.
    """
    if not rows:
        typer.echo("(none)")
        return
    columns = list(rows[0])
    cells = [[_text(row[column]) for column in columns] for row in rows]
    if sys.stdout.isatty():
        _draw(columns, cells, title)
        return
    widths = [max(len(c), *(len(row[i]) for row in cells)) for i, c in enumerate(columns)]
    if title:
        typer.echo(title)
    for row in [columns, *cells]:
        typer.echo("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip())


def _draw(columns: list[str], cells: list[list[str]], title: str | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
