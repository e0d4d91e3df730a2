"""`hwnas study exact`: NSGA-II, cold and begun with exact designs, against exact optima."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.completion import complete_cost, complete_device, complete_space
from hwnas.cli.flags import CostSettings, Json, Quiet, Resume
from hwnas.cli.options import with_limits, with_settings
from hwnas.cli.output import note, print_json, print_table

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("exact")(_exact)


def _exact(
    config: Annotated[
        Path | None, typer.Option(help="YAML file of a search; options override its keys.")
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="Name or file of a space.", autocompletion=complete_space)
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="Two additive cost models, the budget second. Default: sensitivity, bitops.",
            autocompletion=complete_cost,
        ),
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option(help="'NAME<=VALUE' or 'NAME>=VALUE'; repeatable.")
    ] = None,
    settings: CostSettings = None,
    budgets: Annotated[int, typer.Option(help="Budgets to judge at.")] = 5,
    seeds: Annotated[int, typer.Option(help="Searches of each kind, from --seed on.")] = 3,
    max_evaluations: Annotated[int | None, typer.Option(help="Designs of one search.")] = None,
    population: Annotated[int | None, typer.Option(help="Designs a generation.")] = None,
    device: Annotated[
        str | None,
        typer.Option(help="For cost models that need one.", autocompletion=complete_device),
    ] = None,
    supernet: Annotated[str | None, typer.Option(help="For those that look at weights.")] = None,
    data: Annotated[str | None, typer.Option(help="For those that look at images.")] = None,
    seed: Annotated[int | None, typer.Option(help="First seed of the searches.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for exact.json and exact.md.")] = None,
    resume: Resume = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Hold NSGA-II against exact optima at some budgets, from a cold start and a seeded one."""
    from hwnas.cli.progress import progress
    from hwnas.workflows.exact.study import study_exact
    from hwnas.workflows.exact.study_tables import rows_of, sentences
    from hwnas.workflows.resolve import resolve_config

    own = ["sensitivity", "bitops"] if config is None else None
    overrides: dict[str, object] = {
        "space": space, "objectives": objective or own, "device": device, "supernet": supernet,
        "data": data, "population": population, "seed": seed, "max_evaluations": max_evaluations,
    }  # fmt: skip
    chosen = with_limits({k: v for k, v in overrides.items() if v is not None}, limit, {})
    resolved = resolve_config(config, with_settings(chosen, settings or []))
    with progress(quiet=quiet or json_) as watch:
        study = study_exact(
            resolved, budgets=budgets, seeds=seeds, out=out, resume=resume, watch=watch
        )
    if json_:
        print_json(study.to_json())
        return
    print_table(rows_of(study))
    for sentence in sentences(study):
        note(sentence)
    if out is not None:
        note(f"wrote {out}")
