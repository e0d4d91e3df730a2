"""`hwnas study propagation`: gradients under quantizers, and what freezing o and v is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.flags import Json, Quiet, RecipeSettings, Resume
from hwnas.cli.options import with_recipe_settings
from hwnas.cli.output import note, print_json, print_table

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("propagation")(_propagation)


def _propagation(
    out: Annotated[Path, typer.Option(help="Folder of the study.")],
    base: Annotated[str, typer.Option(help="Shipped name or checkpoint.")] = "sam-vit-t",
    data: Annotated[
        Path | None, typer.Option(help="Folder of images and masks; else the embedded picture.")
    ] = None,
    bits: Annotated[
        list[str] | None,
        typer.Option(
            help="Bits of weights, as 4 (inputs have 8), of both, as 4,8, or 32 for floating "
            "point; repeatable. Default: 32, 8, 4, 3, 2."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Draws of batches, trainings of each kind.")] = 1,
    batches: Annotated[int, typer.Option(help="Batches of each seed.")] = 4,
    split: Annotated[
        str, typer.Option(help="Images to look at, where there are splits.")
    ] = "train",
    max_images: Annotated[int, typer.Option(help="Images at most; drawn with --seed.")] = 32,
    calibration: Annotated[int, typer.Option(help="Images for the ranges of inputs.")] = 16,
    resolution: Annotated[int | None, typer.Option(help="Input side in pixels.")] = None,
    settings: RecipeSettings = None,
    train: Annotated[
        int, typer.Option(help="Also fine-tune for so many steps with each --freeze.")
    ] = 0,
    freeze: Annotated[
        list[str] | None,
        typer.Option(help="none, o, v, ov, qk or qkv; repeatable. Default: none, ov."),
    ] = None,
    train_bits: Annotated[
        list[str] | None, typer.Option(help="Bits of fine-tunings; repeatable. Default: 4,8.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    resume: Resume = False,
    torch_device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure which projections' gradients quantization disturbs; with --train also freeze them."""
    from hwnas.cli.progress import progress
    from hwnas.workflows.study_propagation import PropagationOptions, study_propagation
    from hwnas.workflows.study_propagation.options import read_bits
    from hwnas.workflows.study_propagation.tables import (
        projection_rows,
        trained_rows,
        training_rows,
    )

    given = {
        "bits": read_bits(bits or (), "--bits"), "freezes": tuple(freeze or ()),
        "train_bits": read_bits(train_bits or (), "--train-bits"),
    }  # fmt: skip
    options = PropagationOptions(
        seeds=seeds, batches=batches, split=split, max_images=max_images, calibration=calibration,
        seed=seed, train=train,
        overrides=with_recipe_settings({"resolution": resolution}, settings or ()),
        **{name: value for name, value in given.items() if value},  # type: ignore[arg-type]
    )  # fmt: skip
    with progress(quiet=quiet or json_) as watch:
        study = study_propagation(
            base, out=out, data=data, options=options, resume=resume, device=torch_device,
            watch=watch,
        )  # fmt: skip
    if json_:
        print_json(study.to_json() | {"sentences": study.sentences()})
        return
    print_table(projection_rows(study))
    if study.trainings:
        print_table(training_rows(study.trainings))
    if study.trained:
        print_table(trained_rows(study))
    for sentence in study.sentences(study.losses[-1]):
        note(sentence)
    note(f"wrote {out}")
