"""From what a user writes after `--device` to a profile."""

from __future__ import annotations

import logging
import re
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hwnas.device.catalog import HOST, DeviceEntry, entries_of, listing
from hwnas.device.host import host_profile
from hwnas.device.machine import detect_machine
from hwnas.device.modes import profile_at
from hwnas.device.places import Place, places
from hwnas.device.profile import DeviceProfile
from hwnas.device.reading import config_error, read_device_file
from hwnas.errors import DeviceError

if TYPE_CHECKING:
    from hwnas.device.fields import DeviceSpec

__all__ = ["find", "from_dict", "load", "locate", "schema", "split_mode"]

logger = logging.getLogger(__name__)

_FILE: Final = re.compile(r"(?P<path>.+\.ya?ml)(?::(?P<mode>[^:/\\]*))?$")


def find(name_or_path: str | Path, *, mode: str | None = None) -> DeviceProfile:
    """Return the profile that `name_or_path` names.

    Looked up in this order: a path to a YAML file (it contains a slash or ends in .yaml), the
    folder `./devices`, folders that installed packages announce, the built-in devices; last, `host`
    is detected. An id and an alias count alike; `id:mode` and `mode` choose a mode, else the
    device's default mode. The log says at level info which file won.

    Raises:
        DeviceError: nothing is called so, two files of one folder claim the name, or the device
            has no such mode.
        ConfigError: the file that won is wrong; the message lists every problem.
    """
    name, mode = split_mode(name_or_path, mode)
    entry, hidden = locate(name)
    if entry.path is None:
        profile = host_profile(mode=mode)
    else:
        profile = profile_at(load(entry.path), mode, str(entry.path))
        if profile.id == HOST:
            _warn_if_foreign(profile)
    hiding = f", which hides {', '.join(hidden)}" if hidden else ""
    logger.info("device %s is from %s (%s)%s", profile.key, profile.origin, entry.origin, hiding)
    return profile


def load(path: Path) -> DeviceSpec:
    """Read and check one device file.

    Raises:
        DeviceError: it cannot be read.
        ConfigError: it is wrong; the message lists every problem.
    """
    from hwnas.device.problems import validated

    spec, problems = validated(read_device_file(path))
    if spec is None:
        raise config_error(path, problems)
    return spec


def locate(name: str) -> tuple[DeviceEntry, list[str]]:
    """Return the entry that `name` (without a mode) means, and the files that it hides.

    Raises:
        DeviceError: nothing is called so, or two files of one folder claim the name.
    """
    if _is_path(name):
        path = Path(name).expanduser()
        return DeviceEntry(path.stem, "", (), (), None, None, "given path", path), []
    found: list[DeviceEntry] = []
    for place in places():
        claims = [entry for entry in entries_of(place) if name in entry.names]
        if len(claims) > 1 and not found:
            files = " and ".join(str(entry.path) for entry in claims)
            raise DeviceError(f"{name!r} is claimed by {files}; change the id or alias of one")
        found.extend(claims)
    if name == HOST:
        found.append(next(entry for entry in listing() if entry.id == HOST))
    if not found:
        raise DeviceError(_unknown(name))
    if found[0].path is None and found[0].problem is not None:
        raise DeviceError(found[0].problem)
    return found[0], [str(entry.path) for entry in found[1:] if entry.path is not None]


def schema() -> dict[str, Any]:
    """Return the JSON schema of a device file."""
    from hwnas.device.fields import DeviceSpec

    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return head | DeviceSpec.model_json_schema()


def from_dict(data: dict[str, Any], *, origin: str = "a dictionary") -> DeviceProfile:
    """Read `DeviceProfile.to_dict` back, in its default mode; workers get profiles so.

    Raises:
        ConfigError: `data` is not what a device file may hold.
    """
    from hwnas.device.problems import validated_data

    spec, problems = validated_data(data)
    if spec is None:
        raise config_error(origin, problems)
    return profile_at(spec, None, origin)


def split_mode(name_or_path: str | Path, mode: str | None = None) -> tuple[str, str | None]:
    """Split `id:mode` or `file.yaml:mode`; `mode` stands where the name holds none.

    Raises:
        DeviceError: the two modes contradict each other, or the name ends in a colon.
    """
    text = str(name_or_path)
    match = _FILE.match(text)
    name, given = (match["path"], match["mode"]) if match else _halves(text)
    if given == "":
        raise DeviceError(f"{text!r} ends in a colon; write {name}:MODE, or {name} alone")
    if given is not None and mode is not None and given != mode:
        raise DeviceError(f"{text!r} and the mode {mode!r} contradict each other; give one of them")
    return name, given if given is not None else mode


def _halves(text: str) -> tuple[str, str | None]:
    name, colon, mode = text.partition(":")
    return name, mode if colon else None


def _warn_if_foreign(profile: DeviceProfile) -> None:
    """A calibrated `./devices/host.yaml` that was copied from another machine would mislead."""
    here = detect_machine().processor
    if profile.spec.processor not in (None, here):
        logger.warning(
            "%s describes %s, but this machine is %s; remove the file or calibrate again",
            profile.origin, profile.spec.processor, here,
        )  # fmt: skip


def _is_path(name: str) -> bool:
    return "/" in name or "\\" in name or name.endswith((".yaml", ".yml"))


def _unknown(name: str) -> str:
    known = sorted({n for entry in listing() if entry.problem is None for n in entry.names})
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    looked = "; ".join(_looked(place) for place in places())
    hint = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(known)}"
    return (
        f"no device is called {name!r}; {hint}. Looked in {looked}. "
        "`hwnas devices list` shows all; a file of your own is given by its path"
    )


def _looked(place: Place) -> str:
    if place.folder is None:
        return f"{place.label} (broken)"
    state = "" if place.folder.is_dir() else ", which does not exist"
    return f"{place.label} ({place.folder}{state})"
