"""`hwnas resume` and `hwnas report`: what is done with a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["add_to"]

Run = Annotated[Path, typer.Argument(help="Folder of a run.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("resume")(_resume)
    app.command("report")(_report)


def _resume(
    run: Run,
    json_: Annotated[bool, typer.Option("--json", help="Print the front as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Continue an interrupted search; it ends with the front of the undisturbed run."""
    from hwnas.cli.progress import progress
    from hwnas.cli.results import print_front
    from hwnas.workflows.search import resume_search

    with progress(quiet=quiet or json_) as watch:
        outcome = resume_search(run, watch=watch)
    print_front(outcome, as_json=json_)


def _report(run: Run) -> None:
    """Write report.html and front.png of a run again, finished or not."""
    from hwnas.workflows.report import write_report

    for path in write_report(run):
        typer.echo(str(path))
