"""The folder of a study: its settings and one line for each measurement, safe against kill -9."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hwnas.errors import RunError
from hwnas.records.closing import Closing
from hwnas.records.files import explained, replace_text
from hwnas.records.lines import AppendedLines
from hwnas.records.lock import FolderLock

__all__ = ["StudyLog", "differences", "refuse_existing"]

_SETTINGS, _LINES, _LOCK = "settings.json", "measurements.jsonl", "lock"
Record = dict[str, Any]


class StudyLog(Closing):
    """Measurements by key; what is on disk is never measured again.

    `settings` decide what is measured: a folder that was begun with others is refused.

    Raises:
        RunError: the folder exists and `resume` was not said, holds something else, was begun with
            other settings, is in use, damaged or not writable.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        self.path = path
        known = path / _SETTINGS
        if not resume:
            refuse_existing(path)
        if path.exists() and not known.is_file():
            raise RunError(f"{path} is not the folder of a study (no {_SETTINGS}); choose another")
        with explained("create", path):
            path.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(path / _LOCK)
        try:
            if not known.is_file():
                replace_text(known, json.dumps(settings, indent=2) + "\n")
            self._check(settings)
            self._lines = AppendedLines(
                path / _LINES, _parse, _spell,
                advice="cut the file off before it, what follows is then measured again",
            )  # fmt: skip
        except BaseException:
            self._lock.release()
            raise
        self._records = dict(self._lines.records)

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def __getitem__(self, key: str) -> Record:
        return self._records[key]

    def __len__(self) -> int:
        return len(self._records)

    def add(self, key: str, record: Mapping[str, Any]) -> None:
        """Append one measurement; it is on disk, whole, when this returns."""
        self._lines.append((key, dict(record)))
        self._records[key] = dict(record)

    def records(self, prefix: str) -> Iterable[Record]:
        """Measurements whose key begins with `prefix`, in the order of measuring."""
        return [record for key, record in self._records.items() if key.startswith(prefix)]

    def write(self, name: str, text: str) -> Path:
        """Replace one file of the folder, whole or not at all."""
        replace_text(self.path / name, text)
        return self.path / name

    def discard(self) -> None:
        """Remove a folder in which nothing was kept, so that the command can be said again."""
        if not self._records:
            with contextlib.suppress(OSError):
                for name in (_SETTINGS, _LINES, _LOCK):
                    (self.path / name).unlink(missing_ok=True)
                self.path.rmdir()
        self.close()

    def close(self) -> None:
        """Close the files and give the lock back; a second call does nothing."""
        self._lines.close()
        self._lock.release()

    def _check(self, settings: Mapping[str, Any]) -> None:
        with explained("read", self.path / _SETTINGS):
            began = json.loads((self.path / _SETTINGS).read_text(encoding="utf-8"))
        differ = differences(began, json.loads(json.dumps(settings)))
        if differ:
            raise RunError(
                f"{self.path} was begun with other settings; say the same, or choose another "
                "folder with --out:\n  " + "\n  ".join(differ)
            )


def refuse_existing(path: Path) -> None:
    """Refuse a folder that is there already.

    Raises:
        RunError: it is.
    """
    if os.path.lexists(path):
        raise RunError(
            f"{path} exists already; choose another folder with --out, or continue that study "
            "with --resume"
        )


def differences(began: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say of each setting that is not what it was, sorted by name, what it was and is."""
    return [
        f"{name}: began with {began.get(name)!r}, now {now.get(name)!r}"
        for name in sorted({*began, *now})
        if began.get(name) != now.get(name)
    ]


def _parse(text: str) -> tuple[str, Record]:
    record = json.loads(text)
    if not isinstance(record, dict) or "key" not in record:
        raise ValueError("no key")
    return record.pop("key"), record


def _spell(line: tuple[str, Record]) -> str:
    key, record = line
    return json.dumps({"key": key, **record}, allow_nan=False)
