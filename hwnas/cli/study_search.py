"""`hwnas study search`: search by each proxy alone, then measure what it found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.completion import complete_cost, complete_space
from hwnas.cli.flags import CostSettings, Json, Quiet, Resume
from hwnas.cli.options import with_settings
from hwnas.cli.output import note, print_json, print_table

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("search")(_search)


def _search(
    space: Annotated[
        str, typer.Option(help="Name or file of a space.", autocompletion=complete_space)
    ] = "sam-vit-t",
    costs: Annotated[
        str,
        typer.Option(
            help="Cost models by comma, each [LABEL=]NAME, ./file.py[:Name] or pkg.mod:Name.",
            autocompletion=complete_cost,
        ),
    ] = "embedding_distortion",
    against: Annotated[
        str,
        typer.Option(help="Cost model that is measured.", autocompletion=complete_cost),
    ] = "iou",
    budgets: Annotated[int, typer.Option(help="BitOPs budgets.")] = 5,
    max_evaluations: Annotated[int, typer.Option(help="Designs of one search.")] = 360,
    population: Annotated[int, typer.Option(help="Designs a generation.")] = 40,
    settings: CostSettings = None,
    supernet: Annotated[
        str | None, typer.Option(help="Name or file; that of the space by default.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Folder of images and masks; else the embedded picture.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the searches.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for search.json and search.md.")] = None,
    resume: Resume = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let each proxy, and each count of the network, be the only quality of a search."""
    from hwnas.cli.progress import progress
    from hwnas.workflows.study_search import ProxySearchOptions, search_by_proxies

    given = with_settings({}, settings or ())
    options = ProxySearchOptions(
        costs=tuple(filter(None, costs.split(","))), against=against, budgets=budgets,
        max_evaluations=max_evaluations, population=population, seed=seed,
        options=given.get("options"), freeze=given.get("freeze"),  # type: ignore[arg-type]
    )  # fmt: skip
    with progress(quiet=quiet or json_) as watch:
        found = search_by_proxies(
            space, supernet=supernet, data=data, options=options, out=out, resume=resume,
            watch=watch,
        )  # fmt: skip
    if json_:
        print_json(found.to_json())
        return
    print_table(found.table())
    for sentence in found.sentences():
        note(sentence)
    if out is not None:
        note(f"wrote {out}")
