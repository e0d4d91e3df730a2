"""`hwnas resume` and `hwnas report`: what is done with a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.flags import Quiet

__all__ = ["add_to"]

Run = Annotated[Path, typer.Argument(help="Folder of a run.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("resume")(_resume)
    app.command("report")(_report)


def _resume(
    run: Run,
    json_: Annotated[bool, typer.Option("--json", help="Print the front as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Continue an interrupted search; it ends with the front of the undisturbed run."""
    from hwnas.cli.progress import progress
    from hwnas.cli.results import print_front
    from hwnas.workflows.search import resume_search

    with progress(quiet=quiet or json_) as watch:
        outcome = resume_search(run, watch=watch)
    print_front(outcome, as_json=json_)


def _report(
    run: Annotated[Path, typer.Argument(help="Folder of a search or of a finished fine-tuning.")],
    data: Annotated[
        Path | None, typer.Option(help="Images for the masks, in place of those of the run.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Base of a fine-tuning, if not where it was.")
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Images to show masks of; 0 for no masks.", min=0)
    ] = None,
    objects: Annotated[int, typer.Option(help="Objects to prompt of an image.", min=1)] = 8,
    prompt: Annotated[str, typer.Option(help="box or point.")] = "box",
    heat: Annotated[str, typer.Option(help="Heat maps: hires-cam or grad-cam.")] = "hires-cam",
    layer: Annotated[
        str, typer.Option(help="Layer of the heat maps: embedding, or a block, as blocks.3.")
    ] = "embedding",
) -> None:
    """Write report.html and the pictures of a run again, finished or not."""
    from hwnas.workflows.mask_options import mask_options
    from hwnas.workflows.report import write_report

    masks = mask_options(
        images=images, objects=objects, prompt=prompt, heat=heat, layer=layer, data=data, base=base
    )
    for path in write_report(run, masks):
        typer.echo(str(path))
