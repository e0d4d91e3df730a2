"""Which devices there are, read lightly: ids, aliases and modes, nothing validated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hwnas.device.places import Place, places
from hwnas.device.reading import DeviceFile, read_device_file
from hwnas.errors import HwnasError

__all__ = ["HOST", "DeviceEntry", "entries_of", "listing"]

HOST: Final = "host"
"""The name of the machine that this runs on."""


@dataclass(frozen=True, slots=True)
class DeviceEntry:
    """One row of the list of devices.

    Attributes:
        origin: `./devices`, the package, `built-in`, or `this machine`.
        path: The file; None for the host.
        problem: Why the entry is unusable; None for a file that can be read.
    """

    id: str
    name: str
    aliases: tuple[str, ...]
    modes: tuple[str, ...]
    default_mode: str | None
    kind: str | None
    origin: str
    path: Path | None
    problem: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (self.id, *self.aliases)


def listing() -> tuple[DeviceEntry, ...]:
    """Return every device that `find` knows by name, sorted by id, and the host at the end.

    A file that an earlier place hides is left out; one that cannot be read is listed with its
    problem. Neither pydantic nor numpy is imported.
    """
    winners: dict[str, DeviceEntry] = {}
    for place in places():
        for entry in entries_of(place):
            winners.setdefault(entry.id, entry)
    host = DeviceEntry(
        HOST, "the machine that this runs on", (), (), None, None, "this machine", None
    )
    winners.setdefault(HOST, host)
    return tuple(winners[name] for name in sorted(winners, key=lambda name: (name == HOST, name)))


def entries_of(place: Place) -> list[DeviceEntry]:
    """Read the head of every file in `place`."""
    if place.problem is not None:
        return [DeviceEntry(place.label, "", (), (), None, None, place.label, None, place.problem)]
    return [_entry(path, place.label) for path in place.files()]


def _entry(path: Path, origin: str) -> DeviceEntry:
    try:
        return _from_file(read_device_file(path), origin)
    except HwnasError as error:
        return DeviceEntry(path.stem, "", (), (), None, None, origin, path, str(error))


def _from_file(file: DeviceFile, origin: str) -> DeviceEntry:
    data = file.data
    aliases, modes = data.get("aliases"), data.get("modes")
    return DeviceEntry(
        id=_text(data.get("id")) or file.path.stem,
        name=_text(data.get("name")) or "",
        aliases=tuple(a for a in aliases if isinstance(a, str))
        if isinstance(aliases, list)
        else (),
        modes=tuple(map(str, modes)) if isinstance(modes, dict) else (),
        default_mode=_text(data.get("default_mode")),
        kind=_text(data.get("kind")),
        origin=origin,
        path=file.path,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
