"""`hwnas study proxies`: which cost models order subnets as their measured quality does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.completion import complete_cost, complete_device, complete_space
from hwnas.cli.flags import Json, Quiet, Resume
from hwnas.cli.options import with_settings
from hwnas.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from hwnas.workflows.study_proxies import ProxyStudy

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("proxies")(_proxies)


def _proxies(
    space: Annotated[
        str, typer.Option(help="Space of the subnets.", autocompletion=complete_space)
    ] = "sam-vit-t",
    subnets: Annotated[
        Path | None,
        typer.Option(help="JSON lines of `hwnas evaluate --archs`; those that ship by default."),
    ] = None,
    costs: Annotated[
        str,
        typer.Option(
            help="Cost models by comma, each [LABEL=]NAME, ./file.py[:Name] or pkg.mod:Name.",
            autocompletion=complete_cost,
        ),
    ] = "embedding_distortion,bitops",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="cost.NAME.OPTION=VALUE; repeatable.")
    ] = None,
    bands: Annotated[
        int | None, typer.Option(help="Parts by BitOPs judged by themselves. Default: 4.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="Draws for intervals; 0 for none.")] = 1000,
    top: Annotated[float, typer.Option(help="Share of the subnets that is the top.")] = 0.1,
    prompt: Annotated[
        str | None, typer.Option(help="Prompts of the subnets, where the file has several.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="For cost models that need one.", autocompletion=complete_device),
    ] = None,
    supernet: Annotated[
        str | None, typer.Option(help="Name or file; that of the space by default.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Images for proxies that look at them.")] = None,
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for JSON, Markdown and PNG.")] = None,
    resume: Resume = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare the order of cost models with measured quality, and with three baselines."""
    from hwnas.cli.progress import progress
    from hwnas.errors import ConfigError
    from hwnas.workflows.study_proxies import ProxyOptions, study_proxies

    given = with_settings({}, settings or ())
    if "freeze" in given:
        raise ConfigError("--set freeze: a study of proxies takes the subnets as they are")
    options = ProxyOptions(
        costs=tuple(filter(None, costs.split(","))), options=given.get("options"),  # type: ignore[arg-type]
        bands=bands, bootstrap=bootstrap, top=top, prompt=prompt, seed=seed,
    )  # fmt: skip
    with progress(quiet=quiet or json_) as watch:
        study = study_proxies(
            space, subnets=subnets, device=device, supernet=supernet, data=data, options=options,
            out=out, resume=resume, watch=watch,
        )  # fmt: skip
    if json_:
        print_json(study.to_json())
        return
    _print(study)
    if out is not None:
        note(f"wrote {out}")


def _print(study: ProxyStudy) -> None:
    from hwnas.workflows.study_proxies.tables import band_rows, depth_rows, rows_of

    print_table(rows_of(study))
    bands = band_rows(study)
    if bands:
        print_table(bands, title="Kendall tau within bands of BitOPs")
    depths = depth_rows(study)
    if depths:
        print_table(depths, title="Depth: Spearman's rho with the number of layers")
    for row in study.rows:
        if row.verdict:
            note(row.verdict)
    for name, reason in study.failed.items():
        note(f"{name} is left out: {reason}")
    for remark in study.notes:
        note(remark)
