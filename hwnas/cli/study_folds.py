"""`hwnas study folds`: what each way to deploy a trained NAS-LoRA loses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.flags import Json, Quiet
from hwnas.cli.output import note, print_json, print_table

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("folds")(_folds)


def _folds(
    run: Annotated[Path, typer.Argument(help="Folder of hwnas finetune --adapter nas_lora.")],
    data: Annotated[Path, typer.Option(help="Folder of images and masks.")],
    split: Annotated[str, typer.Option(help="Split that is scored.")] = "val",
    calibration: Annotated[
        int, typer.Option(help="Images of the split train that folds are fitted to.")
    ] = 8,
    max_images: Annotated[int | None, typer.Option(help="Score at most so many images.")] = None,
    max_prompts: Annotated[
        int | None, typer.Option(help="Prompt at most so many objects of an image.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of images and objects.")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file for the rows.")] = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Leave the cells as branches, or fold them; print residuals and IoU of each."""
    from hwnas.cli.progress import progress
    from hwnas.workflows.study_folds import study_folds

    with progress(quiet=quiet or json_) as watch:
        rows = study_folds(
            run, data=data, split=split, calibration=calibration, max_images=max_images,
            max_prompts=max_prompts, seed=seed, out=out, watch=watch,
        )  # fmt: skip
    if json_:
        print_json([row.row() for row in rows])
        return
    print_table([row.row() for row in rows])
    if out is not None:
        note(f"wrote {out}")
