"""The tree of commands. Each command imports its workflow when it runs, so that help is quick."""

from __future__ import annotations

from typing import Annotated

import typer

from hwnas.cli import (
    bench,
    blocks,
    calibrating,
    devices,
    evaluation,
    export,
    finetuning,
    inspection,
    measuring,
    models,
    plugins,
    runs,
    search,
    study,
    training,
)

__all__ = ["app"]

app = typer.Typer(
    name="hwnas",
    help="Hardware-aware neural architecture search with pluggable cost models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"hwnas {version('hwnas')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Log more; twice for debugging.")
    ] = 0,
) -> None:
    import logging

    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")


search.add_to(app)
runs.add_to(app)
inspection.add_to(app)
models.add_to(app)
evaluation.add_to(app)
export.add_to(app)
training.add_to(app)
finetuning.add_to(app)
measuring.add_to(app)
calibrating.add_to(app)
app.add_typer(devices.app, name="devices")
app.add_typer(plugins.adapters, name="adapters")
app.add_typer(plugins.costs, name="costs")
app.add_typer(plugins.spaces, name="spaces")
app.add_typer(study.app, name="study")
app.add_typer(blocks.app, name="blocks")
app.add_typer(bench.app, name="bench")
