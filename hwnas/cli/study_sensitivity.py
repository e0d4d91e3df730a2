"""`hwnas study sensitivity`: what each layer costs at each bit-width, and whether that is so."""

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
    app.command("sensitivity")(_sensitivity)


def _sensitivity(
    space: Annotated[
        str, typer.Argument(help="Name or file of a space.", autocompletion=complete_space)
    ] = "sam-vit-t",
    cost: Annotated[
        str,
        typer.Option(help="Cost model with matrices.", autocompletion=complete_cost),
    ] = "sensitivity",
    against: Annotated[
        str,
        typer.Option(
            help="Cost model that groups and plans are measured by.", autocompletion=complete_cost
        ),
    ] = "iou",
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Without: matrices alone.")
    ] = True,
    top: Annotated[float, typer.Option(help="Share of the groups that are measured.")] = 0.2,
    plans: Annotated[int, typer.Option(help="Plans around the optimum that are measured.")] = 10,
    settings: CostSettings = None,
    supernet: Annotated[
        str | None, typer.Option(help="Name or file; that of the space by default.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Folder of images and masks; else the embedded picture.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of crops, prompts and plans.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the matrices.")] = None,
    resume: Resume = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write what each group costs at each option, scaled to losses that are measured."""
    from hwnas.cli.progress import progress
    from hwnas.workflows.sensitivity import SensitivityOptions, study_sensitivity
    from hwnas.workflows.sensitivity.files import checked_rows, most_sensitive, to_json

    given = with_settings({}, settings or ())
    options = SensitivityOptions(
        cost=cost, against=against if check else None, top=top, plans=plans, seed=seed,
        options=given.get("options"), freeze=given.get("freeze"),  # type: ignore[arg-type]
    )  # fmt: skip
    with progress(quiet=quiet or json_) as watch:
        study = study_sensitivity(
            space, supernet=supernet, data=data, options=options, out=out, resume=resume,
            watch=watch,
        )  # fmt: skip
    if json_:
        print_json(to_json(study))
        return
    print_table(checked_rows(study) or most_sensitive(study))
    for sentence in study.sentences():
        note(sentence)
    if out is not None:
        note(f"wrote {out}")
