"""`hwnas predict, explain, validate, schema, doctor`: looking without searching."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.completion import complete_cost, complete_device, complete_space
from hwnas.cli.flags import Json
from hwnas.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from hwnas.config import SearchConfig

__all__ = ["add_to", "print_explanation"]

Config = Annotated[Path, typer.Argument(help="YAML file of a search.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("predict")(_predict)
    app.command("explain")(_explain)
    app.command("validate")(_validate)
    app.command("schema")(_schema)
    app.command("doctor")(_doctor)


def print_explanation(config: SearchConfig, *, as_json: bool) -> None:
    """Print the resolved config, the size of the space, the objectives and the expected time."""
    from hwnas.workflows.explain import explain

    explanation = explain(config)
    if as_json:
        print_json(explanation.to_dict())
        return
    print_table([{"key": key, "value": value} for key, value in explanation.rows()])
    print_table(explanation.objective_rows(), title="\nobjectives")
    for remark in explanation.remarks:
        note(f"note: {remark}")


def _predict(
    space: Annotated[
        str, typer.Option(help="Space of the designs.", autocompletion=complete_space)
    ] = "sam-vit-t",
    device: Annotated[
        str | None, typer.Option(help="Device id.", autocompletion=complete_device)
    ] = None,
    cost: Annotated[
        list[str] | None,
        typer.Option(help="Cost model; repeatable.", autocompletion=complete_cost),
    ] = None,
    arch: Annotated[
        list[str] | None,
        typer.Option(help="JSON of a design, or a file with one JSON a line; repeatable."),
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Predict the front of this run folder.")] = None,
    json_: Json = False,
) -> None:
    """Predict costs of given designs; without any, of the reference designs of the space."""
    from hwnas.workflows.predict import predict

    rows = predict(space=space, device=device, costs=cost or (), archs=arch or (), run=run)
    print_json(rows) if json_ else print_table(rows)


def _explain(config: Config, json_: Json = False) -> None:
    """Say what a search would do: space, objectives, evaluations, expected time."""
    from hwnas.config import load_config

    print_explanation(load_config(config), as_json=json_)


def _validate(config: Config) -> None:
    """Check a search configuration and everything that it names; lists all problems."""
    from hwnas.config import load_config
    from hwnas.workflows.resolve import resolve

    resolve(load_config(config))
    typer.echo(f"{config}: ok")


def _schema(
    kind: Annotated[str, typer.Argument(help="search, space or device.")] = "search",
) -> None:
    """Print the JSON schema of a YAML file, for editors."""
    from hwnas.workflows.schema import schema

    print_json(schema(kind))


def _doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Compile and time nothing.")] = False,
    json_: Json = False,
) -> None:
    """Check the installation: versions, optional parts, measuring, shipped files, plug-ins."""
    from hwnas.workflows.doctor import doctor

    findings = doctor(quick=quick)
    rows: list[dict[str, object]] = [
        {"check": f.check, "level": f.level, "message": f.message} for f in findings
    ]
    print_json(rows) if json_ else print_table(rows)
    if any(f.level == "error" for f in findings):
        raise typer.Exit(4)
