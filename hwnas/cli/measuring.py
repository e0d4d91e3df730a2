"""`hwnas measure`, and `hwnas measurements` for what it has kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.completion import complete_device, complete_space
from hwnas.cli.flags import Json, Quiet
from hwnas.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from hwnas.workflows.measure import MeasureOutcome

__all__ = ["Key", "Rpc", "Runner", "Store", "Tracker", "add_to", "measurements"]

Rpc = Annotated[str | None, typer.Option(help="HOST:PORT of a TVM RPC server on the device.")]
Tracker = Annotated[str | None, typer.Option(help="HOST:PORT of a TVM tracker; needs --key.")]
Key = Annotated[str | None, typer.Option(help="Name of the device at the tracker.")]
Runner = Annotated[
    str | None, typer.Option(help="tvm (default), onnxruntime or torch; results name it.")
]
Store = Annotated[
    str | None, typer.Option(help="File of measurements; default: measurements/DEVICE.sqlite.")
]
File = Annotated[Path, typer.Argument(help="Store of measurements, a .sqlite file.")]

measurements = typer.Typer(help="List, export and import measurements.", no_args_is_help=True)

_MOST_FAILURES = 10


def add_to(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("measure")(_measure)
    app.add_typer(measurements, name="measurements")


def _measure(
    device: Annotated[
        str,
        typer.Option(
            help="Device id, alias, id:mode, YAML file, or 'host'.", autocompletion=complete_device
        ),
    ],
    space: Annotated[
        str,
        typer.Option(help="Whose kernels and subnets.", autocompletion=complete_space),
    ] = "sam-vit-t",
    samples: Annotated[
        int | None, typer.Option(help="Kernels, known ones included. Default: 300.")
    ] = None,
    subnets: Annotated[
        int | None, typer.Option(help="Whole subnets, known ones included. Default: 40.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after so many; alone, as much as fits.")
    ] = None,
    uncertain: Annotated[
        int, typer.Option(help="Also the subnets that the device's predictor knows least.")
    ] = 0,
    prompts: Annotated[int, typer.Option(help="Prompts in the time of a subnet.")] = 1,
    again: Annotated[
        float, typer.Option(help="Share that is measured twice, for the noise floor.")
    ] = 0.05,
    visits: Annotated[
        int, typer.Option(help="How often at most what something else disturbed is measured.")
    ] = 3,
    rpc: Rpc = None,
    tracker: Tracker = None,
    key: Key = None,
    runner: Runner = None,
    store: Store = None,
    seed: Annotated[int, typer.Option(help="Draws the subnets.")] = 0,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Measure again what has failed before.")
    ] = False,
    tune: Annotated[
        int, typer.Option(help="Schedules to try for each kernel first; the fastest is kept.")
    ] = 0,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compile and time kernels and subnets on a device; the same command goes on after any end."""
    from hwnas.cli.progress import progress
    from hwnas.config import make_measuring
    from hwnas.workflows.measure import Amounts, measure

    measuring = make_measuring(rpc=rpc, tracker=tracker, key=key, runner=runner, store=store)
    amounts = Amounts(samples, subnets, minutes, uncertain, prompts, again, visits)
    with progress(quiet=quiet or json_) as watch:
        outcome = measure(
            device, space=space, amounts=amounts, measuring=measuring, seed=seed,
            retry_failed=retry_failed, tune=tune, watch=watch,
        )  # fmt: skip
    _print(outcome, as_json=json_)


def _print(outcome: MeasureOutcome, *, as_json: bool) -> None:
    facts, report = outcome.facts(), outcome.report
    if as_json:
        print_json(facts)
        return
    failed = facts.pop("failures")
    print_table([{"what": name.replace("_", " "), "value": v} for name, v in facts.items()])
    for name, message in report.failed[:_MOST_FAILURES]:
        note(f"failed: {name}: {message}")
    if len(report.failed) > _MOST_FAILURES:
        note(f"and {len(report.failed) - _MOST_FAILURES} more: hwnas measurements list")
    if failed:
        note("what failed is left out from now on; --retry-failed tries it again")


@measurements.command("list")
def _list(store: File, json_: Json = False) -> None:
    """Count what a store holds, by device, runner, kind and status."""
    from hwnas.workflows.measurements import list_measurements

    rows = list_measurements(store)
    print_json(rows) if json_ else print_table(rows)


@measurements.command("export")
def _export(
    store: File,
    out: Annotated[Path, typer.Option(help="CSV file to write.")],
    repeats: Annotated[
        bool, typer.Option("--repeats/--no-repeats", help="Single times beside their statistic.")
    ] = True,
) -> None:
    """Write every measurement of a store as CSV."""
    from hwnas.workflows.measurements import export_measurements

    note(f"wrote {export_measurements(store, out, repeats=repeats)} measurements to {out}")


@measurements.command("import")
def _import(
    store: File, csv: Annotated[Path, typer.Option("--from", help="CSV file of measurements.")]
) -> None:
    """Add the measurements of a CSV file to a store; those that it holds are left out."""
    from hwnas.workflows.measurements import import_measurements

    added, known = import_measurements(store, csv)
    note(f"added {added} measurements to {store}, {known} were there already")
