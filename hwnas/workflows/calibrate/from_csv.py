"""`hwnas calibrate --from-csv`: a predictor for any space from a table of times, no device."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from hwnas.calibration.accuracy import Accuracy
from hwnas.calibration.noise import label_of, noise_between, noise_of_repeats
from hwnas.calibration.series import broken_repeats, series_problems
from hwnas.cost import CostModel
from hwnas.device import DeviceProfile, find
from hwnas.device.modes import NO_MODES
from hwnas.errors import ConfigError, CostError, DataError, DeviceError
from hwnas.space import SearchSpace, load_space
from hwnas.workflows.calibrate.fit import Calibrated, Labeled, fit_and_judge
from hwnas.workflows.calibrate.times_table import Series, TimesTable, read_times
from hwnas.workflows.calibrate.transfer import calibrated_source, learned
from hwnas.workflows.calibrate.write import predictor_folder, write_device, write_predictor
from hwnas.workflows.context import make_context
from hwnas.workflows.watch import Silent, Watch

__all__ = ["FromCsv", "Refused", "calibrate_from_csv"]

logger = logging.getLogger(__name__)

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Refused:
    """A series that cannot be learned from, and why."""

    device: str
    reason: str


@dataclass(frozen=True)
class FromCsv:
    """What came of a file.

    Attributes:
        calibrated: Predictors with their reports, by device.
        folders: Where each was saved.
        device_files: Device files that name them.
        refused: Series that were left out.
    """

    calibrated: dict[str, Calibrated]
    folders: dict[str, Path]
    device_files: tuple[Path, ...]
    refused: tuple[Refused, ...]


def calibrate_from_csv(
    path: Path,
    space: str | SearchSpace,
    *,
    device: str | None = None,
    time_columns: str | None = None,
    transfer_from: Sequence[str] = (),
    out: Path = Path("devices"),
    prompts: int = 1,
    watch: Watch | None = None,
) -> FromCsv:
    """Fit and judge a predictor for each series of times in a CSV; refuse those that make no sense.

    Args:
        path: the CSV; its columns are described in `hwnas.workflows.calibrate.times_table`.
        space: name, file, or space.
        device: the device that the times are of, where the file names none, or one of those that
            it names. If a profile of that name is found, a device file is written that uses the
            predictor, and the profile's roofline is tried as its structure.
        time_columns: pattern of the columns of times.
        transfer_from: other series of the file, calibrated devices, or folders of predictors to
            learn from; the series that are calibrated are the rest.
        out: folder of the results.
        prompts: how many prompts a time includes, where the network has any.
        watch: told of the progress.

    Raises:
        DataError: the file is unusable, or none of its series can be learned from.
        HwnasError: the space or the device file is wrong.
    """
    watch = watch or Silent()
    loaded = load_space(space)
    table = read_times(path, loaded, pattern=time_columns)
    calibrated: dict[str, Calibrated] = {}
    folders: dict[str, Path] = {}
    files, refused = [], []
    sources = {
        name: _source(name, table, loaded, prompts=prompts, watch=watch) for name in transfer_from
    }
    for name, series in _targets(table, device, sources).items():
        profile = _profile(device)
        context = make_context(loaded, device=profile)
        try:
            found = learned(
                context, _labeled(table, series), sources, device=name, prompts=prompts,
                watch=watch,
            )  # fmt: skip
        except (DataError, CostError) as error:
            refused.append(Refused(name, str(error)))
            continue
        home, mode = (name, NO_MODES) if profile is None else (profile.id, profile.mode)
        folder = predictor_folder(out, home, loaded.name, mode)
        write_predictor(folder, found)
        calibrated[name], folders[name] = found, folder
        if profile is not None:
            files.append(write_device(out, profile, found.report, folder))
    if not calibrated:
        reasons = "\n".join(f"  {r.device}: {r.reason}" for r in refused)
        raise DataError(f"{path}: no series of times can be learned from\n{reasons}")
    return FromCsv(calibrated, folders, tuple(files), tuple(refused))


def _targets(
    table: TimesTable, device: str | None, sources: Mapping[str, CostModel]
) -> dict[str, Series]:
    """The series to calibrate: those that are not learned from."""
    found = {n: s for n, s in _named(table, device).items() if n not in sources}
    if not found:
        raise ConfigError(
            f"--transfer {','.join(sources)}: no series of {table.path} is left to calibrate; "
            "name one that is not among them with --device"
        )
    return found


def _source(
    name: str, table: TimesTable, space: SearchSpace, *, prompts: int, watch: Watch
) -> CostModel:
    """A predictor of another series of the file, or of a device that was calibrated before."""
    series = next((s for s in table.series if s.device == name), None)
    if series is None:
        return calibrated_source(name, space, prompts=prompts)
    context = make_context(space)
    try:
        found = fit_and_judge(
            context, _labeled(table, series), device=name, prompts=prompts, watch=watch
        )
    except (DataError, CostError) as error:
        raise DataError(
            f"{table.path}: nothing can be learned from {name}: {error}; leave it out of --transfer"
        ) from error
    return cast("CostModel", found.predictor)


def _named(table: TimesTable, device: str | None) -> dict[str, Series]:
    """The series to learn from, by the name that results get."""
    names = [series.device for series in table.series]
    if names == [""]:
        return {device or table.path.stem: table.series[0]}
    plain = {series.device or "unnamed": series for series in table.series}
    if device is None:
        return plain
    if device not in plain:
        raise DataError(
            f"{table.path}: no times of {device!r}; the file has {', '.join(plain)}: name one of "
            "them with --device, or leave it out for all of them"
        )
    return {device: plain[device]}


def _profile(device: str | None) -> DeviceProfile | None:
    """The profile that the user named; None where there is none, which is fine."""
    if device is None:
        return None
    try:
        return find(device)
    except DeviceError as error:
        logger.info("no profile for %s: %s", device, error)
        return None


def _labeled(table: TimesTable, series: Series) -> Labeled:
    """Labels of a series, with what is wrong with single repeats put right.

    Raises:
        DataError: the series makes no sense; says why.
    """
    if series.text:
        line, cell = next(iter(series.text.items()))
        raise DataError(
            f"{len(series.text)} rows hold what is no number (line {line}: {cell!r}); leave failed "
            "measurements empty"
        )
    remarks = _ignored(table)
    repeats = series.ms
    broken = broken_repeats(repeats)
    if broken:
        remarks += [f"column {series.columns[c]} is left out: {r}" for c, r in broken.items()]
        repeats = np.delete(repeats, list(broken), axis=1)
    measured = np.asarray((~np.isnan(repeats)).any(axis=1))
    failed = int((~measured).sum())
    if not measured.any():
        raise DataError("all of its cells are empty; expected times")
    if failed:
        remarks.append(f"{failed} of {len(measured)} rows have no time and are left out")
    repeats = repeats[measured]
    lines = [line for line, good in zip(table.lines, measured, strict=True) if good]
    problems = series_problems(repeats, lines)
    if problems:
        raise DataError("; ".join(problems))
    archs, ms = table.archs.take(measured), label_of(repeats)
    noise, source = _noise(repeats, archs.ids, ms)
    if noise is not None and noise.mape == 0.0:
        remarks.append("all repeats of a row are equal: copies say nothing of the noise")
        noise, source = None, "the repeats are copies of one value"
    return Labeled(archs, ms, np.ones(len(ms), np.bool_), noise, source, tuple(remarks))


def _noise(repeats: Float, ids: Sequence[str], ms: Float) -> tuple[Accuracy | None, str]:
    """From repeats in columns, or from architectures that are there in several rows."""
    if repeats.shape[1] > 1:
        source = f"two labels of {repeats.shape[1]} repeats each, judged by halves"
        return noise_of_repeats(repeats), source
    first: dict[str, float] = {}
    pairs = []
    for name, value in zip(ids, ms.tolist(), strict=True):
        if name in first:
            pairs.append((first[name], value))
        first.setdefault(name, value)
    if pairs:
        return noise_between(*zip(*pairs, strict=True)), "rows of the same architecture"
    return None, "the file has one time an architecture and no repeats"


def _ignored(table: TimesTable) -> list[str]:
    if not table.ignored:
        return []
    shown = ", ".join(table.ignored[:6]) + (", ..." if len(table.ignored) > 6 else "")
    return [f"columns that are neither genes nor times are not used: {shown}"]
