"""Writing what was calibrated: a predictor's folder, and a device file that names it.

Installed files are never edited: a built-in profile is copied to `./devices` first. The predictor
is whole before the device file names it, and both are replaced in one step, so a kill leaves the
old calibration or the new one.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import yaml

from hwnas.calibration.report import CalibrationReport
from hwnas.device import DeviceProfile, from_dict
from hwnas.device.modes import NO_MODES
from hwnas.device.reading import read_device_file
from hwnas.records.files import explained, replace_text
from hwnas.workflows.calibrate.fit import Calibrated

__all__ = ["predictor_folder", "write_device", "write_predictor"]

REPORT_FILE = "report.json"
_HEAD = "# Written by `hwnas calibrate`; the figures are those of {origin}.\n"


def predictor_folder(folder: Path, name: str, space: str, mode: str = NO_MODES) -> Path:
    """Where the predictor of a device and space lies: `<id>.predictor/<space>`, by mode if any."""
    parts = [name] if mode == NO_MODES else [name, mode]
    return folder / f"{'.'.join(parts)}.predictor" / space


def write_predictor(folder: Path, calibrated: Calibrated) -> None:
    """Save the predictor and its report.

    Raises:
        RunError: it cannot be written.
    """
    with explained("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
    calibrated.predictor.save(folder)
    text = json.dumps(calibrated.report.to_dict(), indent=1, allow_nan=False)
    replace_text(folder / REPORT_FILE, text + "\n")


def write_device(
    folder: Path, profile: DeviceProfile, report: CalibrationReport, predictor: Path
) -> Path:
    """Write `<id>.yaml` with the calibration record of the profile's mode; return its path.

    Records of other spaces and modes are kept, those of a file that is already there first.

    Raises:
        RunError: it cannot be written.
    """
    path, origin = folder / f"{profile.id}.yaml", Path(profile.origin)
    known = read_device_file(origin).data if origin.is_file() else profile.to_dict()
    data: dict[str, Any] = json.loads(json.dumps(known, default=str))
    own = _record(profile, report, predictor.relative_to(folder))
    place = _place(data, profile.mode)
    kept = {r["space"]: _moved(r, origin.parent, folder) for r in _records(place)}
    if path.is_file() and path.resolve() != origin.resolve():
        there = _place(
            json.loads(json.dumps(read_device_file(path).data, default=str)), profile.mode
        )
        kept |= {r["space"]: r for r in _records(there)}
    kept.pop(own["space"], None)
    place["calibration"] = [*kept.values(), own]
    from_dict(data, origin=str(path))  # what cannot be read is not written
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
    head = "" if origin.resolve() == path.resolve() else _HEAD.format(origin=origin.name)
    replace_text(path, head + text)
    return path


def _place(data: dict[str, Any], mode: str) -> dict[str, Any]:
    """The part of a device file that holds the calibration of a mode."""
    if not data.get("modes"):
        return data
    if data["modes"].get(mode) is None:  # a mode that overrides nothing is written as `5w:`
        data["modes"][mode] = {}
    found: dict[str, Any] = data["modes"][mode]
    return found


def _records(place: dict[str, Any]) -> list[dict[str, Any]]:
    known = place.get("calibration") or []
    return [known] if isinstance(known, dict) else list(known)


def _record(profile: DeviceProfile, report: CalibrationReport, predictor: Path) -> dict[str, Any]:
    accuracy, noise = report.accuracy, report.noise
    return {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "fingerprint": profile.fingerprint,
        "space": report.space,
        "samples": report.fitted_on + report.held_out,
        "mape": round(accuracy.mape, 4),
        "within_10pct": round(accuracy.within_10pct, 4),
        "kendall_tau": round(accuracy.kendall_tau or 0.0, 4),
        **({} if noise is None else {"noise_floor_pct": round(noise.mape, 4)}),
        "predictor": predictor.as_posix(),
    }


def _moved(record: dict[str, Any], home: Path, folder: Path) -> dict[str, Any]:
    """A record of a file elsewhere names its predictor by a path that leads there."""
    named = record.get("predictor")
    if named is None or home.resolve() == folder.resolve() or Path(named).is_absolute():
        return record
    return {**record, "predictor": str((home / named).resolve())}
