"""Append-only files of one record a line, which a kill at any instant leaves readable."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from hwnas.errors import RunError
from hwnas.records.closing import Closing
from hwnas.records.files import append_text, explained

__all__ = ["AppendedLines", "read_lines"]

_LOG = logging.getLogger(__name__)
Record = TypeVar("Record")


def read_lines(
    path: Path, parse: Callable[[str], Record], *, advice: str
) -> tuple[list[Record], int]:
    """Read every whole line; a last line that was cut off by a kill is dropped.

    Args:
        path: The file; none where there is none.
        parse: Makes a record of a line, or raises ValueError or RunError.
        advice: What to do about a damaged line.

    Returns:
        The records, and how many bytes of the file their lines fill.

    Raises:
        RunError: a line before the last is damaged (the message has its number), or the file
            cannot be read.
    """
    if not path.exists():
        return [], 0
    with explained("read", path):
        lines = path.read_bytes().split(b"\n")
    torn = lines.pop()  # empty after a final newline
    records: list[Record] = []
    whole_bytes = 0
    for number, line in enumerate(lines, start=1):
        try:
            records.append(parse(line.decode()))
        except (RunError, ValueError) as error:
            if number == len(lines) and not torn:  # a block that never reached the disk
                torn = line
                break
            raise RunError(f"{path}, line {number} is damaged: {error}; {advice}") from error
        whole_bytes += len(line) + 1
    if torn:
        _LOG.warning("%s: dropped a torn last line of %d bytes", path, len(torn))
    return records, whole_bytes


class AppendedLines(Closing, Generic[Record]):
    """One line a record; a torn last line is cut off when the file is opened.

    Args:
        path: The file, which is made where there is none.
        parse: Reads a line, or raises ValueError or RunError.
        spell: Writes a line, without its end.
        advice: What to do about a damaged line.
        alone: Whether another process that has the file open is an error.

    Raises:
        RunError: a line is damaged, the file cannot be written, or another process writes it.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[str], Record],
        spell: Callable[[Record], str],
        *,
        advice: str,
        alone: bool = False,
    ) -> None:
        self.path, self._spell, self._descriptor = path, spell, -1
        with explained("open", path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if alone:
                self._lock()
            self._records, whole_bytes = read_lines(path, parse, advice=advice)
            with explained("repair", path):
                os.ftruncate(self._descriptor, whole_bytes)
        except BaseException:
            self.close()
            raise

    @property
    def records(self) -> Sequence[Record]:
        """Every line, in the order of writing."""
        return tuple(self._records)

    def append(self, *records: Record) -> None:
        """Append lines, all in one write.

        Raises:
            RunError: they cannot be written; the file then ends where it ended before.
        """
        text = "".join(f"{self._spell(record)}\n" for record in records)
        append_text(self._descriptor, self.path, text)
        self._records.extend(records)

    def sync(self) -> None:
        """Wait until what was appended is on the disk.

        Raises:
            RunError: the disk refuses.
        """
        with explained("write", self.path):
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(
                f"{self.path} is being written by another process; wait for it, or stop it"
            ) from error
