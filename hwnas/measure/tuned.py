"""Schedules that tuning has found, one a line in a JSON-lines file beside the compiled kernels.

A line belongs to a kernel, a target and a version of our kernels; of several the last one holds.
Lines are only added, each at once, so a file survives any end and several writers. A line that
cannot be read is left out: at worst a kernel is tuned again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from hwnas.errors import DeviceError
from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels import SCHEDULE_VERSION
from hwnas.measure.kernels.schedule import DEFAULT, Schedule

__all__ = ["FILE", "Tuned", "add_tuned", "digest", "read_tuned"]

FILE: Final = "schedules.jsonl"
"""Name of the file in the folder of compiled kernels."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """What tuning found for a kernel.

    Attributes:
        kernel: What was tuned.
        schedule: The fastest; the default where nothing was faster.
        ms: Its time when it was compared with the default, and `default_ms` that of the default.
        default_ms: See `ms`.
        tries: Variants that were allowed.
    """

    kernel: Kernel
    schedule: Schedule
    ms: float
    default_ms: float
    tries: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "kernel": self.kernel.key,
            "schedule": self.schedule.to_dict(),
            "ms": self.ms,
            "default_ms": self.default_ms,
            "tries": self.tries,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Read `to_dict` back; other fields are ignored."""
        return cls(
            Kernel.from_key(fields["kernel"]),
            Schedule.from_dict(fields["schedule"]),
            float(fields["ms"]),
            float(fields["default_ms"]),
            int(fields["tries"]),
        )


def read_tuned(path: Path, target: str) -> dict[Kernel, Tuned]:
    """Return what the file holds for a target and the present kernels; nothing without a file."""
    return {tuned.kernel: tuned for tuned in _lines(path, target)}


def add_tuned(path: Path, target: str, tuned: Tuned) -> None:
    """Add a line."""
    fields = {**tuned.to_dict(), "target": target, "schedules": SCHEDULE_VERSION}
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(handle).st_size
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"  # a writer was killed
        os.write(handle, b"\n" * torn + json.dumps(fields).encode() + b"\n")
    finally:
        os.close(handle)


def digest(schedules: Mapping[Kernel, Schedule]) -> str:
    """Short hash of all schedules that differ from the default; empty if none does."""
    given = sorted((k.key, s.to_dict()) for k, s in schedules.items() if s != DEFAULT)
    return hashlib.sha256(json.dumps(given).encode()).hexdigest()[:8] if given else ""


def _lines(path: Path, target: str) -> Iterator[Tuned]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        try:
            fields = json.loads(line)
            if (fields["target"], fields["schedules"]) == (target, SCHEDULE_VERSION):
                yield Tuned.from_dict(fields)
        except (ValueError, TypeError, KeyError, AttributeError, DeviceError):
            continue
