"""`hwnas study scratch`: networks trained one at a time, to judge proxies by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.completion import complete_space
from hwnas.cli.flags import Json, Quiet, Resume
from hwnas.cli.output import note, print_json, print_table

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("scratch")(_scratch)


def _scratch(
    out: Annotated[Path, typer.Option(help="Folder of the study.")],
    space: Annotated[
        str,
        typer.Option(help="tile-cnn or tile-cnn-mask.", autocompletion=complete_space),
    ] = "tile-cnn",
    data: Annotated[
        Path | None, typer.Option(help="Folder with splits; else the embedded picture.")
    ] = None,
    archs: Annotated[str, typer.Option(help="random:N, or a file of designs.")] = "random:64",
    seeds: Annotated[int, typer.Option(help="Trainings of each network.")] = 1,
    steps: Annotated[int, typer.Option(help="Updates of each training.")] = 160,
    batch: Annotated[int, typer.Option(help="Tiles a step.")] = 32,
    rate: Annotated[float, typer.Option(help="Largest learning rate.")] = 4e-3,
    max_seconds: Annotated[float, typer.Option(help="Of one training; then it is left out.")] = 120,
    tiles: Annotated[int, typer.Option(help="Tiles of train to learn from.")] = 4096,
    val_tiles: Annotated[int, typer.Option(help="Tiles of val to score on.")] = 1024,
    span: Annotated[int, typer.Option(help="Pixels of an image that a tile covers.")] = 96,
    split_seed: Annotated[
        int | None, typer.Option(help="Draw train and val, where the folder names no splits.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of networks, tiles and weights.")] = 0,
    resume: Resume = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train networks from scratch on tiles, for `hwnas study proxies --subnets`."""
    from hwnas.cli.progress import progress
    from hwnas.supernet.scratch import Recipe
    from hwnas.workflows.study_scratch import ScratchOptions, study_scratch

    options = ScratchOptions(
        archs=archs, seeds=seeds, tiles=tiles, val_tiles=val_tiles, span=span,
        split_seed=split_seed, seed=seed,
        recipe=Recipe(steps=steps, batch=batch, rate=rate, max_seconds=max_seconds),
    )  # fmt: skip
    with progress(quiet=quiet or json_) as watch:
        study = study_scratch(
            space, out=out, data=data, options=options, resume=resume, watch=watch
        )
    if json_:
        print_json(study.to_json())
        return
    print_table([study.summary()])
    for name, reason in study.failed.items():
        note(f"{name} is left out: {reason}")
    for remark in study.notes:
        note(remark)
    note(f"wrote {out}")
