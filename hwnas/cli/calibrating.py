"""`hwnas calibrate`: a latency predictor for a device, and how good it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.completion import complete_device, complete_space
from hwnas.cli.flags import Json, Quiet
from hwnas.cli.output import note, print_json, print_table
from hwnas.errors import ConfigError

if TYPE_CHECKING:
    from hwnas.calibration.report import CalibrationReport

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("calibrate")(_calibrate)


def _calibrate(
    device: Annotated[
        str | None,
        typer.Option(help="Device that was measured.", autocompletion=complete_device),
    ] = None,
    space: Annotated[
        str, typer.Option(help="Space of the measured subnets.", autocompletion=complete_space)
    ] = "sam-vit-t",
    store: Annotated[
        Path | None, typer.Option(help="File of measurements; else the device's own.")
    ] = None,
    from_csv: Annotated[
        Path | None, typer.Option(help="CSV of architectures and times, of any space.")
    ] = None,
    time_columns: Annotated[
        str | None,
        typer.Option(
            help="Names of its columns of times: 'lat_{device}_{repeat}', * for anything."
        ),
    ] = None,
    transfer: Annotated[
        str | None,
        typer.Option(
            help="Learn from other devices too: calibrated ones, other columns of the CSV, or "
            "folders of predictors, with commas.",
            metavar="DEVICE,...",
        ),
    ] = None,
    prompts: Annotated[int | None, typer.Option(help="Prompts that a time includes.")] = None,
    hold_out: Annotated[
        int | None, typer.Option(help="Random subnets that judge; a fifth of all by default.")
    ] = None,
    judge_since: Annotated[
        str | None,
        typer.Option(help="UTC time: random subnets measured since judge; else a fixed fifth."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of device files and predictors.")] = Path(
        "devices"
    ),
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit a latency predictor on measurements, judge it by held-out designs, write it down."""
    from hwnas.cli.progress import progress
    from hwnas.workflows.calibrate.transfer import split_names

    others = () if transfer is None else split_names(transfer)
    if from_csv is not None:
        if store is not None:
            raise ConfigError("--store and --from-csv exclude each other; give one of them")
        from hwnas.workflows.calibrate.from_csv import calibrate_from_csv

        with progress(quiet=quiet or json_) as watch:
            found = calibrate_from_csv(
                from_csv, space, device=device, time_columns=time_columns, out=out,
                transfer_from=others, prompts=1 if prompts is None else prompts, watch=watch,
            )  # fmt: skip
        reports = {name: c.report for name, c in found.calibrated.items()}
        written = [*found.folders.values(), *found.device_files]
        _show(reports, written, {r.device: r.reason for r in found.refused}, as_json=json_)
        return
    if device is None:
        raise ConfigError(
            "--device is missing: name the device that was measured, or a table of times with "
            "--from-csv"
        )
    if time_columns is not None:
        raise ConfigError("--time-columns belongs to --from-csv")
    from hwnas.workflows.calibrate import HoldOut, calibrate

    with progress(quiet=quiet or json_) as watch:
        done = calibrate(
            device, space, store=store, prompts=prompts, transfer_from=others,
            hold_out=HoldOut(hold_out, judge_since), out=out, watch=watch,
        )  # fmt: skip
    report = done.calibrated.report
    _show({report.device: report}, [done.folder, done.device_file], {}, as_json=json_)


def _show(
    reports: dict[str, CalibrationReport],
    written: list[Path],
    refused: dict[str, str],
    *,
    as_json: bool,
) -> None:
    if as_json:
        print_json(
            {
                "reports": {name: report.to_dict() for name, report in reports.items()},
                "refused": refused,
                "written": [str(path) for path in written],
            }
        )
        return
    for name, report in reports.items():
        print_table(report.rows(), title=f"\n{name}")
        for sentence in report.sentences():
            typer.echo(sentence)
    for name, reason in refused.items():
        note(f"refused: {name}: {reason}")
    for path in written:
        note(f"wrote {path}")
