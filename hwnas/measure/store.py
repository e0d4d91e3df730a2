"""Where measurements are kept: one SQLite file that several processes may write.

The file is in WAL mode: readers never wait, two writers take turns, and each `add` is whole or
absent after `kill -9`. (After a power cut the last rows may be missing, none is damaged.) Rows
are only added, never changed: a subject that is measured twice has two rows, because their
difference is the noise floor. WAL needs a local disk; network file systems do not lock well enough.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hwnas.errors import DeviceError
from hwnas.measure.measurement import Measurement, Status, Subject
from hwnas.records.closing import Closing

__all__ = ["MeasurementStore", "default_store_path"]

_APPLICATION = 0x48574E53  # "HWNS" in the header of the file
_VERSION = 1
_BUSY_SECONDS = 60.0
_COLUMNS = (
    "subject", "key", "fingerprint", "runner", "status", "value_ms", "repeats_ms", "reference_ms",
    "clean", "message", "measured_at", "details",
)  # fmt: skip
_SCHEMA = """
CREATE TABLE measurements (
    id INTEGER PRIMARY KEY,
    subject TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, runner TEXT NOT NULL,
    status TEXT NOT NULL, value_ms REAL, repeats_ms TEXT NOT NULL, reference_ms REAL,
    clean INTEGER NOT NULL, message TEXT NOT NULL, measured_at TEXT NOT NULL, details TEXT NOT NULL
);
CREATE INDEX by_subject ON measurements (subject, key, fingerprint, runner);
CREATE TABLE claims (
    subject TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, runner TEXT NOT NULL,
    pid INTEGER NOT NULL, until REAL NOT NULL, PRIMARY KEY (subject, key, fingerprint, runner)
);
"""
_INSERT = (
    f"INSERT INTO measurements ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
)


def default_store_path(device_id: str) -> Path:
    """`./measurements/<device id>.sqlite`, below the folder that the user works in."""
    return Path("measurements") / f"{device_id}.sqlite"


class MeasurementStore(Closing):
    """Measurements on disk; made where there is none. Close it, or use it in a `with` statement.

    It may be pickled: the copy opens the file anew.

    Raises:
        DeviceError: the file is no store, was written by a later version, or cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._explained("open"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None
            )
        try:
            with self._explained("open"):
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def add(self, *measurements: Measurement) -> None:
        """Append measurements, all or none; they are on disk when this returns.

        Raises:
            DeviceError: the disk refuses.
        """
        with self._explained("write"), self._transaction():
            self._connection.executemany(_INSERT, map(_cells, measurements))

    def latest(
        self, subject: Subject, key: str, fingerprint: str, runner: str | None = None
    ) -> Measurement | None:
        """The last good measurement of a subject, else the last noisy one, else the last failure.

        None if it was never measured. Without a `runner` that of any runner.
        """
        found = self.rows(subject, key=key, fingerprint=fingerprint, runner=runner)
        for status in ("ok", "noisy", "failed"):
            last = next((row for row in reversed(found) if row.status == status), None)
            if last is not None:
                return last
        return None

    def rows(
        self,
        subject: Subject | None = None,
        *,
        key: str | None = None,
        fingerprint: str | None = None,
        runner: str | None = None,
        status: Status | None = None,
    ) -> list[Measurement]:
        """Every measurement that agrees with what is given, in the order of adding."""
        wanted = {
            "subject": subject, "key": key, "fingerprint": fingerprint, "runner": runner,
            "status": status,
        }  # fmt: skip
        return list(self._select({k: v for k, v in wanted.items() if v is not None}))

    def counts(self, fingerprint: str | None = None) -> dict[tuple[str, str, str, str], int]:
        """Number of rows by (fingerprint, runner, subject, status), sorted."""
        where = "" if fingerprint is None else "WHERE fingerprint = ?"
        with self._explained("read"):
            found = self._connection.execute(
                "SELECT fingerprint, runner, subject, status, COUNT(*) FROM measurements "
                f"{where} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
                () if fingerprint is None else (fingerprint,),
            ).fetchall()
        return {(f, r, s, t): n for f, r, s, t, n in found}

    def claim(
        self, subject: Subject, key: str, fingerprint: str, runner: str, *, seconds: float = 600.0
    ) -> bool:
        """Say that this process is going to measure a subject; False where another one is at it.

        Processes that share a store so do not measure the same at the same time. A claim ends with
        its process or after `seconds`, so that nobody waits for one that was killed.
        """
        where = (subject, key, fingerprint, runner)
        now, mine = time.time(), os.getpid()
        with self._explained("write"), self._transaction():
            found = self._connection.execute(
                "SELECT pid, until FROM claims WHERE subject = ? AND key = ? AND fingerprint = ? "
                "AND runner = ?", where,
            ).fetchone()  # fmt: skip
            if found is not None and found[0] != mine and found[1] > now and _is_alive(found[0]):
                return False
            self._connection.execute(
                "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?, ?)",
                (*where, mine, now + seconds),
            )
        return True

    def __len__(self) -> int:
        with self._explained("read"):
            (count,) = self._connection.execute("SELECT COUNT(*) FROM measurements").fetchone()
        return int(count)

    def __iter__(self) -> Iterator[Measurement]:
        return self._select({})

    def add_new(self, measurements: Iterable[Measurement]) -> int:
        """Append those that are not there yet to the last digit; returns how many were."""
        with self._explained("write"), self._transaction():
            known = {_cells(row) for row in self._select({})}
            fresh = list(dict.fromkeys(c for c in map(_cells, measurements) if c not in known))
            self._connection.executemany(_INSERT, fresh)
        return len(fresh)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._connection.close()

    def __reduce__(self) -> tuple[type[MeasurementStore], tuple[Path]]:
        return MeasurementStore, (self.path.absolute(),)

    def _prepare(self) -> None:
        """Make the tables of a new file; refuse a file of another kind or a later version."""
        run = self._connection.execute
        if self._header() == (0, 0, 0):
            run("PRAGMA journal_mode = WAL")
            with self._transaction():
                if self._header() == (0, 0, 0):  # no other process was faster
                    for statement in filter(str.strip, _SCHEMA.split(";")):
                        run(statement)
                    run(f"PRAGMA application_id = {_APPLICATION}")
                    run(f"PRAGMA user_version = {_VERSION}")
        application, version, _ = self._header()
        if application != _APPLICATION:
            raise DeviceError(
                f"{self.path} is a database of something else; expected a store of measurements: "
                "name another file with --store"
            )
        if version > _VERSION:
            raise DeviceError(
                f"{self.path} was written in format {version}, and this hwnas reads up to "
                f"{_VERSION}; update hwnas, or name another file with --store"
            )
        run("PRAGMA synchronous = NORMAL")

    def _header(self) -> tuple[int, int, int]:
        run = self._connection.execute
        (application,) = run("PRAGMA application_id").fetchone()
        (version,) = run("PRAGMA user_version").fetchone()
        (tables,) = run("SELECT COUNT(*) FROM sqlite_master").fetchone()
        return application, version, tables

    def _select(self, wanted: Mapping[str, Any]) -> Iterator[Measurement]:
        where = f"WHERE {' AND '.join(f'{name} = ?' for name in wanted)}" if wanted else ""
        with self._explained("read"):
            found = self._connection.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM measurements {where} ORDER BY id",
                tuple(wanted.values()),
            ).fetchall()
        return map(_measurement, found)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise DeviceError(
                f"cannot {doing} the measurements in {self.path}: {error}; expected a store of "
                "measurements on a local disk that is writable and not full: free it, or name "
                "another file with --store"
            ) from error


def _cells(m: Measurement) -> tuple[Any, ...]:
    repeats = json.dumps(m.repeats_ms, separators=(",", ":"))
    details = json.dumps(dict(m.details), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return (
        m.subject, m.key, m.fingerprint, m.runner, m.status, m.value_ms, repeats, m.reference_ms,
        m.clean, m.message, m.measured_at, details,
    )  # fmt: skip


def _measurement(cells: tuple[Any, ...]) -> Measurement:
    fields = dict(zip(_COLUMNS, cells, strict=True))
    return Measurement.from_dict(
        fields
        | {
            "repeats_ms": json.loads(fields["repeats_ms"]),
            "details": json.loads(fields["details"]),
        }
    )


def _is_alive(pid: int) -> bool:
    """Whether a process of this machine runs; the store is on a local disk, so all are its."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
