"""`hwnas study …`: what a search space is worth before it is searched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from hwnas.cli import (
    study_exact,
    study_folds,
    study_propagation,
    study_proxies,
    study_scratch,
    study_search,
    study_sensitivity,
)
from hwnas.cli.completion import complete_space
from hwnas.cli.flags import Json, Quiet
from hwnas.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from hwnas.workflows.study.space import SpaceStudy

__all__ = ["app"]

app = typer.Typer(help="Study what parts of a space are worth.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Study what parts of a space are worth."""


study_exact.add_to(app)
study_folds.add_to(app)
study_propagation.add_to(app)
study_proxies.add_to(app)
study_scratch.add_to(app)
study_search.add_to(app)
study_sensitivity.add_to(app)


@app.command("space")
def _space(
    space: Annotated[
        str,
        typer.Argument(help="Space over SAM: a name or a file.", autocompletion=complete_space),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the study.")],
    supernet: Annotated[
        str | None, typer.Option(help="Supernet file; the shipped one by default.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of images and masks; else the embedded picture.")
    ] = None,
    split: Annotated[str, typer.Option(help="Rows of split.csv, where there is one.")] = "val",
    prompt: Annotated[str, typer.Option(help="box or point.")] = "box",
    max_images: Annotated[int, typer.Option(help="Images at most; drawn with --seed.")] = 16,
    max_objects: Annotated[int, typer.Option(help="Objects prompted of an image.")] = 32,
    axis: Annotated[
        list[str] | None, typer.Option(help="Axis to study; repeatable, all by default.")
    ] = None,
    archs_per_value: Annotated[
        int, typer.Option(help="1: all else at its largest; more add random architectures.")
    ] = 1,
    floating: Annotated[
        bool, typer.Option("--float/--no-float", help="Also measure with nothing quantized.")
    ] = True,
    sensitivity_images: Annotated[
        int, typer.Option(help="Images for single layers at fewer bits; 0 for none.")
    ] = 8,
    top: Annotated[int, typer.Option(help="Single layers whose IoU is measured.")] = 18,
    tolerance: Annotated[float, typer.Option(help="Points below the front that are kept.")] = 1.0,
    max_loss: Annotated[float, typer.Option(help="Points beyond which no value is kept.")] = 10.0,
    quality: Annotated[
        bool, typer.Option("--quality/--no-quality", help="Without: BitOPs alone, no weights.")
    ] = True,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="The weights mean nothing: show no quality.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the study in --out.")] = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure what each axis of a space saves and costs, and propose a smaller space."""
    from hwnas.cli.progress import progress
    from hwnas.workflows.study.space import StudyOptions, study_space

    options = StudyOptions(
        split=split, prompt=cast(Literal["box", "point"], prompt), max_images=max_images,
        max_objects=max_objects, seed=seed, quality=quality, floating=floating,
        archs_per_value=archs_per_value, sensitivity_images=sensitivity_images, top=top,
        tolerance=tolerance, max_loss=max_loss, axes=tuple(axis or ()), synthetic=synthetic,
    )  # fmt: skip
    with progress(quiet=quiet or json_) as watch:
        study = study_space(
            space, out=out, supernet=supernet, data=data, options=options, resume=resume,
            watch=watch,
        )  # fmt: skip
    if json_:
        print_json(study.to_json())
        return
    _print(study)
    note(f"wrote {out}")


@app.command("budgets")
def _budgets(
    subnets: Annotated[Path, typer.Argument(help="JSON lines of `hwnas evaluate` on val.")],
    supernet: Annotated[str, typer.Option(help="The supernet that they are of: name or file.")],
    out: Annotated[Path, typer.Option(help="Folder of the study; continued if it exists.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of images and masks; else the embedded picture.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split that chosen subnets are scored on.")] = "test",
    space: Annotated[
        str | None, typer.Option(help="A part of the supernet's space; all of it by default.")
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="box or point; repeatable. Default: both.")
    ] = None,
    budget: Annotated[
        list[float] | None,
        typer.Option(help="Share of the largest network's BitOPs at 8 bits; repeatable. Six."),
    ] = None,
    max_prompts: Annotated[
        int | None, typer.Option(help="Objects prompted of an image; all by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the prompted objects.")] = 0,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Choose the best subnet for each of some BitOPs budgets, and score it on another split."""
    from dataclasses import asdict

    from hwnas.cli.progress import progress
    from hwnas.workflows.study.budgets import BUDGETS, study_budgets

    with progress(quiet=quiet or json_) as watch:
        rows = study_budgets(
            subnets, supernet=supernet, out=out, data=data, split=split, space=space,
            prompts=prompt or ("box", "point"), budgets=budget or BUDGETS,
            max_prompts=max_prompts, seed=seed, watch=watch,
        )  # fmt: skip
    shown = [asdict(row) for row in rows]
    print_json(shown) if json_ else print_table(shown)


@app.command("compare")
def _compare(
    runs: Annotated[
        list[str], typer.Argument(help="NAME=FOLDER of `study budgets`; a name again: more seeds.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for compare.md, compare.json, compare.png.")],
    title: Annotated[str, typer.Option(help="Of the picture.")] = (
        "Subnets chosen on val, scored on test"
    ),
    json_: Json = False,
) -> None:
    """Put several supernets side by side at the same budgets."""
    from dataclasses import asdict

    from hwnas.errors import ConfigError
    from hwnas.workflows.study.compare import compare_budgets

    named: dict[str, list[str]] = {}
    for run in runs:
        name, equals, folder = run.partition("=")
        if not (name and equals and folder):
            raise ConfigError(f"{run!r}; expected NAME=FOLDER, as multiplex=runs/budgets-0")
        named.setdefault(name, []).append(folder)
    rows = compare_budgets(named, out=out, title=title)
    shown = [asdict(row) for row in rows]
    print_json(shown) if json_ else print_table(shown)


def _print(study: SpaceStudy) -> None:
    print_table(_rows(study))
    for found in study.hypotheses:
        note(f"{found.sentence}: {found.verdict}")
    for remark in study.notes:
        note(remark)


def _rows(study: SpaceStudy) -> Sequence[dict[str, object]]:
    rows = []
    for p in study.points:
        row: dict[str, object] = {
            "axis": p.axis, "value": p.value, "GBitOPs": p.gbitops,
            "share %": 100 * p.gbitops / study.largest["gbitops"],
        }  # fmt: skip
        if p.iou is not None:
            row |= {
                "IoU": p.iou, "points lost": p.loss, "standard error": p.loss_error,
                "per halving": p.eta, "keep": "yes" if p.kept else "no", "why": p.why,
            }  # fmt: skip
        rows.append(row)
    return rows
