"""`hwnas costs|spaces|adapters list|show|check`."""

from __future__ import annotations

from typing import Annotated

import typer

from hwnas.cli.completion import (
    complete_adapter,
    complete_cost,
    complete_device,
    complete_space,
)
from hwnas.cli.flags import Json
from hwnas.cli.output import print_json, print_table

__all__ = ["adapters", "costs", "spaces"]

costs = typer.Typer(help="Cost models: built in, in a file, or in a package.", no_args_is_help=True)
spaces = typer.Typer(
    help="Search spaces: built in, in a file, or in a package.", no_args_is_help=True
)

adapters = typer.Typer(help="Adapters: built in, in a file, or in a package.", no_args_is_help=True)

CostSpec = Annotated[
    str,
    typer.Argument(help="Name, ./file.py[:Name] or pkg.mod:Name.", autocompletion=complete_cost),
]
SpaceSpec = Annotated[
    str,
    typer.Argument(
        help="Name, ./file.py[:Name], ./file.yaml or pkg.mod:Name.", autocompletion=complete_space
    ),
]
AdapterSpec = Annotated[
    str,
    typer.Argument(help="Name, ./file.py[:Name] or pkg.mod:Name.", autocompletion=complete_adapter),
]
OnSpace = Annotated[
    str, typer.Option("--space", help="Space to try it on.", autocompletion=complete_space)
]
OnDevice = Annotated[
    str | None,
    typer.Option("--device", help="Device to try it with.", autocompletion=complete_device),
]


@costs.command("list")
def _list_costs(json_: Json = False) -> None:
    """List the cost models that --objective and --cost accept by name."""
    from hwnas.workflows.plugins import list_costs

    _print(list_costs(), json_)


@costs.command("show")
def _show_cost(spec: CostSpec, json_: Json = False) -> None:
    """Show what a cost model computes and its options."""
    from hwnas.workflows.plugins import show_cost

    _print(show_cost(spec), json_)


@costs.command("check")
def _check_cost(
    spec: CostSpec, space: OnSpace = "sam-vit-t", device: OnDevice = "jetson-orin"
) -> None:
    """Run the public contract kit on a cost model; exit code 2 where a promise is broken."""
    from hwnas.testing import check_cost_spec

    _report(spec, check_cost_spec(spec, space=space, device=device))


@spaces.command("list")
def _list_spaces(json_: Json = False) -> None:
    """List the search spaces that --space accepts by name."""
    from hwnas.workflows.plugins import list_spaces

    _print(list_spaces(), json_)


@spaces.command("show")
def _show_space(spec: SpaceSpec, json_: Json = False) -> None:
    """Show the choices and the size of a space."""
    from hwnas.workflows.plugins import show_space

    _print(show_space(spec), json_)


@spaces.command("check")
def _check_space(spec: SpaceSpec) -> None:
    """Run the public contract kit on a search space; exit code 2 where a promise is broken."""
    from hwnas.testing import check_space_spec

    _report(spec, check_space_spec(spec))


@adapters.command("list")
def _list_adapters(json_: Json = False) -> None:
    """List the adapters that a training recipe accepts by name."""
    from hwnas.workflows.plugins import list_adapters

    _print(list_adapters(), json_)


@adapters.command("show")
def _show_adapter(spec: AdapterSpec, json_: Json = False) -> None:
    """Show what an adapter does to a weight and its options."""
    from hwnas.workflows.plugins import show_adapter

    _print(show_adapter(spec), json_)


@adapters.command("check")
def _check_adapter(spec: AdapterSpec) -> None:
    """Run the public contract kit on an adapter; exit code 2 where a promise is broken."""
    from hwnas.testing.adapters import check_adapter

    _report(spec, check_adapter(spec))


def _print(rows: list[dict[str, object]], as_json: bool) -> None:
    print_json(rows) if as_json else print_table(rows)


def _report(spec: str, findings: list[str]) -> None:
    for finding in findings:
        typer.echo(f"broken: {finding}")
    if findings:
        raise typer.Exit(2)
    typer.echo(f"{spec}: every promise is kept")
