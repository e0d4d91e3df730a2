"""What `hwnas devices check` says about a profile: errors that stop it, remarks that do not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hwnas.device.catalog import DeviceEntry, entries_of
from hwnas.device.lookup import find, locate, split_mode
from hwnas.device.places import Place, places
from hwnas.device.profile import DeviceProfile
from hwnas.device.reading import read_device_file
from hwnas.errors import HwnasError

__all__ = ["Finding", "check"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark; an `error` makes the profile unusable, a `warning` makes it weaker."""

    level: Literal["error", "warning"]
    message: str


def check(profile: DeviceProfile | str | Path) -> list[Finding]:
    """Check a profile, or the file that a name or a path leads to, in all of its modes.

    A file that cannot be used yields its problems as errors; nothing is raised for it.

    Raises:
        DeviceError: no file is found under the name.
    """
    if isinstance(profile, DeviceProfile):
        return [*_file_findings(Path(profile.origin)), *_remarks(profile)]
    name, mode = split_mode(profile)
    entry, _ = locate(name)
    if entry.path is None:
        return _remarks(find(name, mode=mode))
    findings = list(_file_findings(entry.path))
    if any(finding.level == "error" for finding in findings):
        return findings
    modes: tuple[str | None, ...] = (mode,) if mode else entry.modes or (None,)
    for each in modes:
        findings += [f for f in _remarks(find(entry.path, mode=each)) if f not in findings]
    return findings


def _file_findings(path: Path) -> Iterator[Finding]:
    from hwnas.device.problems import validated

    if not path.is_file():
        return
    try:
        file = read_device_file(path)
    except HwnasError as error:
        yield Finding("error", str(error))
        return
    for problem in validated(file)[1]:
        at = f"line {problem.line}: " if problem.line else ""
        yield Finding("error", f"{at}{problem.where}: {problem.message}")
    name = file.data.get("id")
    if isinstance(name, str) and name != path.stem:
        yield Finding("warning", f"the file is called {path.name}, but its id is {name!r}")
    yield from _clashes(path)


def _clashes(path: Path) -> Iterator[Finding]:
    """Compare names with the other files of the folder, and with places that come before."""
    here = Place(str(path.parent), path.parent)
    entries = entries_of(here)
    own = next((e for e in entries if e.path == path), None)
    if own is None:
        return
    for other in entries:
        for name in sorted(set(own.names) & set(other.names)) if other.path != path else ():
            yield Finding("error", f"{name!r} is claimed by {other.path} as well")
    for place in places():
        if place.folder is not None and place.folder.resolve() == path.parent.resolve():
            return
        yield from _hidden(own, place)


def _hidden(own: DeviceEntry, place: Place) -> Iterator[Finding]:
    for other in entries_of(place):
        for name in sorted(set(own.names) & set(other.names)):
            yield Finding("warning", f"{name!r} means {other.path} ({place.label}) by name")


def _remarks(profile: DeviceProfile) -> list[Finding]:
    texts = [*_order_of_peaks(profile), *_missing(profile)]
    weak = profile.weak_figures()
    if weak:
        texts.append(f"{len(weak)} figures are recalled, look them up: {', '.join(weak)}")
    return [Finding("warning", f"{profile.key}: {text}") for text in texts]


def _order_of_peaks(profile: DeviceProfile) -> Iterator[str]:
    peaks = {dtype: figure.value for dtype, figure in profile.spec.peak_tops_dense.items()}
    for wide, narrow in (("fp32", "fp16"), ("fp16", "int8"), ("int8", "int4")):
        if wide in peaks and narrow in peaks and peaks[narrow] < peaks[wide]:
            yield f"{narrow} peaks at {peaks[narrow]:g} TOPS, below {wide} at {peaks[wide]:g}"


def _missing(profile: DeviceProfile) -> Iterator[str]:
    if not profile.calibrations:
        yield "not calibrated: its latency is a roofline estimate until `hwnas calibrate`"
    if profile.energy_basis is None:
        yield "neither energy nor power_w is given: energy cannot be estimated"
    if profile.runtime.name == "tvm" and profile.tvm_target is None:
        yield "the runtime is tvm but tvm_target is missing: it cannot be measured"
