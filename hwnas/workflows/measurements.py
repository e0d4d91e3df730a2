"""`hwnas measurements`: what a store holds, and CSV in and out."""

from __future__ import annotations

from pathlib import Path

from hwnas.errors import DeviceError
from hwnas.measure.store import MeasurementStore
from hwnas.measure.store_csv import export_csv, import_csv

__all__ = ["export_measurements", "import_measurements", "list_measurements"]


def list_measurements(store: str | Path) -> list[dict[str, object]]:
    """Number of measurements by device, runner, subject and status.

    Raises:
        DeviceError: there is no store.
    """
    with _existing(store) as found:
        return [
            {"device": device, "runner": runner, "what": what, "status": status, "number": number}
            for (device, runner, what, status), number in found.counts().items()
        ]


def export_measurements(store: str | Path, out: str | Path, *, repeats: bool = True) -> int:
    """Write a store as CSV; returns the number of rows.

    Raises:
        DeviceError: there is no store.
        RunError: the file cannot be written.
    """
    with _existing(store) as found:
        return export_csv(found, Path(out), repeats=repeats)


def import_measurements(store: str | Path, csv: str | Path) -> tuple[int, int]:
    """Add the rows of a CSV file; returns how many were added, and how many were known.

    Raises:
        DeviceError: the file is damaged (every problem is named), or the store cannot be written.
    """
    with MeasurementStore(store) as found:
        return import_csv(found, Path(csv))


def _existing(store: str | Path) -> MeasurementStore:
    if not Path(store).is_file():
        raise DeviceError(
            f"{store}: no store of measurements there; `hwnas measure --device NAME` makes "
            "measurements/DEVICE.sqlite"
        )
    return MeasurementStore(store)
