"""`hwnas devices list|show|check`."""

from __future__ import annotations

from typing import Annotated

import typer

from hwnas.cli.completion import complete_device
from hwnas.cli.flags import Json
from hwnas.cli.output import note, print_json, print_table

__all__ = ["app"]

app = typer.Typer(help="Device profiles: built in, in ./devices, or in a package.",
                  no_args_is_help=True)  # fmt: skip

Name = Annotated[
    str, typer.Argument(help="Id, alias, id:mode, or path.", autocompletion=complete_device)
]


@app.command("list")
def _list(json_: Json = False) -> None:
    """List every device that `--device` accepts by name."""
    from hwnas.device import listing

    rows: list[dict[str, object]] = [
        {"id": row.id, "name": row.name, "aliases": ", ".join(row.aliases) or None,
         "modes": ", ".join(row.modes) or None, "from": row.origin}
        for row in listing()
    ]  # fmt: skip
    print_json(rows) if json_ else print_table(rows)


@app.command("show")
def _show(name: Name, json_: Json = False) -> None:
    """Show every figure of a device with its status and source."""
    from hwnas.device import find, show

    profile = find(name)
    rows = show(profile)
    if json_:
        print_json(rows)
        return
    note(f"{profile.key}: {profile.name} (from {profile.origin})")
    print_table(rows)


@app.command("check")
def _check(name: Name) -> None:
    """Check a device profile; exit code 2 where a promise is broken."""
    from hwnas.device import check

    findings = check(name)
    for finding in findings:
        typer.echo(f"{finding.level}: {finding.message}")
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(2)
    typer.echo(f"{name}: ok ({len(findings)} remarks)")
