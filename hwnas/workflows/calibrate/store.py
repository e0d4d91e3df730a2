"""`hwnas calibrate`: from the measurements of a store to a validated predictor of a device."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwnas.calibration.accuracy import Accuracy
from hwnas.calibration.noise import noise_between, noise_of_repeats
from hwnas.device import DeviceProfile, find
from hwnas.errors import ArchError, ConfigError, DataError
from hwnas.measure.measurement import Measurement
from hwnas.space import Archs, SearchSpace, load_space
from hwnas.workflows.calibrate.fit import Calibrated, Labeled
from hwnas.workflows.calibrate.transfer import calibrated_source, learned
from hwnas.workflows.calibrate.write import predictor_folder, write_device, write_predictor
from hwnas.workflows.context import make_context
from hwnas.workflows.watch import Silent, Watch

__all__ = ["CalibratedDevice", "HoldOut", "calibrate", "labels_of_store", "undisturbed"]

_SLOW_REFERENCE = 1.08  # of the usual time of the reference kernel
_CLEAN_SHARE = 0.5  # of the rows, below which the disturbed ones are kept as well
_FEWEST_JUDGES = 5
_RANDOM = (None, "random")  # how a subnet may have been picked to be held out


@dataclass(frozen=True, slots=True)
class HoldOut:
    """Which random subnets judge a predictor.

    Attributes:
        count: So many, always the same ones; a fifth of all subnets if None.
        since: UTC time, ISO 8601: those first measured then or later, instead. Nothing that was
            chosen by looking at the others has seen them.
    """

    count: int | None = None
    since: str | None = None

    def __post_init__(self) -> None:
        if self.count is not None and self.since is not None:
            raise ConfigError(
                f"--hold-out {self.count} and --judge-since {self.since} exclude each other; give "
                "one of them"
            )


@dataclass(frozen=True)
class CalibratedDevice:
    """What came of it: the predictor with its report, where it lies, and the device file."""

    calibrated: Calibrated
    folder: Path
    device_file: Path


def calibrate(
    device: str | DeviceProfile,
    space: str | SearchSpace = "sam-vit-t",
    *,
    store: Path | Iterable[Measurement] | None = None,
    prompts: int | None = None,
    transfer_from: Sequence[str] = (),
    hold_out: HoldOut | None = None,
    out: Path = Path("devices"),
    watch: Watch | None = None,
) -> CalibratedDevice:
    """Fit on measured kernels and subnets, judge by held-out subnets, write profile and predictor.

    Args:
        device: the device that was measured.
        space: the space of its subnets.
        store: file of measurements, or the measurements; by default the device's own file.
        prompts: the subnets to use are those timed with as many; the most frequent number if None.
        transfer_from: calibrated devices, or folders of their predictors, to learn from.
        hold_out: which random subnets judge; a fixed fifth of all if None.
        out: folder of the results.
        watch: told of the progress.

    Raises:
        DataError: the store has too little of this device and space, or other devices say too
            little of it; says what to measure.
        HwnasError: space, device or store cannot be used.
    """
    profile = find(device) if isinstance(device, str) else device
    loaded = load_space(space)
    rows = _rows(store, profile)
    hold_out = hold_out or HoldOut()
    labeled, prompts = labels_of_store(rows, profile, loaded, prompts, since=hold_out.since)
    labeled = dataclasses.replace(labeled, hold_out=hold_out.count)
    kernels, _ = undisturbed([row for row in rows if row.subject == "kernel"])
    context = dataclasses.replace(make_context(loaded, device=profile), store=tuple(kernels))
    watch = watch or Silent()
    sources = {name: calibrated_source(name, loaded, prompts=prompts) for name in transfer_from}
    calibrated = learned(
        context, labeled, sources, device=profile.key, prompts=prompts, watch=watch
    )
    folder = predictor_folder(out, profile.id, loaded.name, profile.mode)
    write_predictor(folder, calibrated)
    return CalibratedDevice(
        calibrated, folder, write_device(out, profile, calibrated.report, folder)
    )


def labels_of_store(
    rows: Sequence[Measurement],
    profile: DeviceProfile,
    space: SearchSpace,
    prompts: int | None = None,
    since: str | None = None,
) -> tuple[Labeled, int]:
    """Return the measured subnets of a space on a device, and for how many prompts.

    A subnet that was measured several times counts once, with the protocol's statistic of them.

    Raises:
        DataError: there are none, or too few to judge by, measured `since` then.
    """
    of_space = [
        row for row in rows
        if row.subject == "subnet" and row.details.get("space") == space.name
        and row.fingerprint == profile.fingerprint
    ]  # fmt: skip
    good = [row for row in of_space if row.value_ms is not None]
    counts: dict[int, int] = defaultdict(int)
    for row in good:
        counts[int(row.details.get("prompts", 1))] += 1
    if prompts is None and counts:
        prompts = max(sorted(counts), key=lambda n: counts[n])
    good = [row for row in good if int(row.details.get("prompts", 1)) == prompts]
    good, disturbed = undisturbed(good)
    if not good or prompts is None:
        raise DataError(_nothing(rows, profile, space, counts))
    first = [row for row in good if not (row.details.get("again") or row.details.get("visit"))]
    known = {row.key for row in first}
    later = [row for row in good if row.details.get("again") or row.details.get("visit")]
    # a later time of what was disturbed at first
    instead = {row.key: row for row in later if row.key not in known}
    first += instead.values()
    again = [row for row in later if row.details.get("again") and row.key in known]
    archs, first = _archs(space, first)
    noise, source = _noise(first, again)
    failed = len(of_space) - sum(counts.values())
    remarks = [f"{failed} measurements of subnets failed and are left out"] if failed else []
    if disturbed:
        remarks.append(
            f"{disturbed} times of subnets were disturbed (sessions that disagree, or a reference "
            f"beside them more than {_SLOW_REFERENCE - 1:.0%} slower than usual) and are left out"
        )
    noisy = sum(row.status == "noisy" for row in first)
    if noisy:
        remarks.append(f"{noisy} of {len(first)} times have fewer undisturbed repeats than asked")
    runners = sorted({row.runner for row in first})
    remarks.append(f"measured with {', '.join(runners)}; {prompts} prompts an image")
    held = [row.details.get("picked") in _RANDOM for row in first]
    ms = _summed_up(good, first, profile)
    judges = None if since is None else _since(first, held, since)
    labeled = Labeled(archs, ms, np.array(held), noise, source, tuple(remarks), judges, in_ms=True)
    return labeled, prompts


def _summed_up(
    rows: Sequence[Measurement], first: Sequence[Measurement], profile: DeviceProfile
) -> NDArray[np.float64]:
    """The time of each of `first`, from all measurements of it, shape (n,)."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.value_ms is not None:
            values[row.key].append(row.value_ms)
    statistic = np.median if profile.protocol.statistic == "median" else np.min
    return np.array([statistic(values[row.key]) for row in first], dtype=np.float64)


def _since(rows: Sequence[Measurement], may: Sequence[bool], since: str) -> NDArray[np.bool_]:
    """Mark the rows that may be held out and were measured at `since` or later.

    Raises:
        DataError: `since` is no time, or fewer than five are.
    """
    try:
        start = _utc(since)
    except ValueError as error:
        raise DataError(
            f"--judge-since {since}: {error}; expected a time such as 2026-11-22T08:40"
        ) from error
    marked = [ok and _utc(row.measured_at) >= start for row, ok in zip(rows, may, strict=True)]
    if sum(marked) < _FEWEST_JUDGES or all(marked):
        raise DataError(
            f"--judge-since {since}: {sum(marked)} random subnets of {len(rows)} were first "
            f"measured since; expected at least {_FEWEST_JUDGES}, and some before to fit on"
        )
    return np.array(marked)


def _utc(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def undisturbed(rows: Sequence[Measurement]) -> tuple[list[Measurement], int]:
    """Leave out what something else disturbed; return the rest, and how many were left out.

    Disturbed are times whose sessions disagree, and those beside which the reference kernel was
    slower than usual: both are found without looking at the time itself. All are kept where most
    are disturbed, since nothing is known to be better then.
    """
    reference = [row.reference_ms for row in rows if row.reference_ms is not None]
    most = _SLOW_REFERENCE * float(np.median(reference)) if reference else np.inf
    clean = [row for row in rows if row.status != "noisy" and (row.reference_ms or 0.0) <= most]
    if len(clean) < _CLEAN_SHARE * len(rows):
        return list(rows), 0
    return clean, len(rows) - len(clean)


def _rows(
    store: Path | Iterable[Measurement] | None, profile: DeviceProfile
) -> tuple[Measurement, ...]:
    if store is not None and not isinstance(store, str | Path):
        return tuple(store)
    from hwnas.measure.store import MeasurementStore, default_store_path

    path = default_store_path(profile.id) if store is None else Path(store)
    if not path.is_file():
        raise DataError(
            f"{path}: no measurements there; measure with `hwnas measure --device {profile.id}`, "
            "or name the file with --store"
        )
    with MeasurementStore(path) as found:
        return tuple(row for row in found if row.fingerprint == profile.fingerprint)


def _archs(space: SearchSpace, rows: Sequence[Measurement]) -> tuple[Archs, list[Measurement]]:
    """Architectures of the rows; those that the space does not contain are left out.

    Raises:
        DataError: none is left.
    """
    archs, kept = [], []
    for row in rows:
        try:
            archs.append(space.arch(row.details["genes"]))
        except (ArchError, KeyError):
            continue
        kept.append(row)
    if not archs:
        raise DataError(
            f"no measured subnet is of {space.name}; measure some with `hwnas measure --subnets`"
        )
    return Archs.of(space, archs), kept


def _noise(first: list[Measurement], again: list[Measurement]) -> tuple[Accuracy | None, str]:
    """From subnets that were measured twice; from repeats where none was."""
    latest = {row.key: row.value_ms for row in first}
    pairs = [(latest[row.key], row.value_ms) for row in again if row.key in latest]
    if len(pairs) >= 2:
        one, two = zip(*pairs, strict=True)
        return noise_between(one, two), f"{len(pairs)} subnets measured twice"
    repeats = [row.repeats_ms for row in first if len(row.repeats_ms) > 1]
    if not repeats:
        return None, "no subnet was measured twice"
    width = max(map(len, repeats))
    padded = np.array([[*r, *[np.nan] * (width - len(r))] for r in repeats])
    return noise_of_repeats(padded), "halves of the repeats within a session"


def _nothing(
    rows: Sequence[Measurement], profile: DeviceProfile, space: SearchSpace, counts: dict[int, int]
) -> str:
    if counts:
        there = ", ".join(map(str, sorted(counts)))
        return f"subnets were timed with {there} prompts; choose one of these with --prompts"
    others = sorted({str(r.details.get("space")) for r in rows if r.subject == "subnet"})
    what = f"subnets of {', '.join(others)}" if others else f"{len(rows)} measurements, no subnets"
    return (
        f"no measured subnets of {space.name} on {profile.fingerprint}; the store has {what}: "
        f"measure some with `hwnas measure --device {profile.id} --space {space.name}`"
    )
