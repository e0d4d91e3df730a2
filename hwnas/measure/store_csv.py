"""Measurements as a CSV file: for a spreadsheet, for a colleague, for another store.

One row a measurement, with the fields of `Measurement`. `repeats_ms` has numbers separated by
blanks, `details` is JSON. Floats survive the round trip to the last bit. A file whose name ends
in `.gz` is compressed.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast, get_args

from hwnas.errors import DeviceError, HwnasError, problem_lines
from hwnas.measure.measurement import Measurement, Status, Subject
from hwnas.measure.store import MeasurementStore
from hwnas.records.files import replace_bytes, replace_text

__all__ = ["export_csv", "import_csv", "read_csv"]

_NEEDED = ("subject", "key", "fingerprint", "runner", "status", "value_ms")
_OPTIONAL = ("repeats_ms", "reference_ms", "clean", "message", "measured_at", "details")
_MOST_PROBLEMS = 20


def export_csv(measurements: Iterable[Measurement], path: Path, *, repeats: bool = True) -> int:
    """Write measurements (a store is a sequence of them); returns how many.

    Without `repeats` the file is a fifth as long and says no more of a value than its statistic.

    Raises:
        RunError: the file cannot be written; an older one is untouched.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, [*_NEEDED, *_OPTIONAL], lineterminator="\n")
    writer.writeheader()
    count = 0
    for count, row in enumerate(measurements, start=1):  # noqa: B007 - counted for the caller
        writer.writerow(
            row.to_dict()
            | {
                "repeats_ms": " ".join(map(repr, row.repeats_ms)) if repeats else "",
                "details": json.dumps(dict(row.details), sort_keys=True, allow_nan=False),
            }
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        replace_bytes(path, gzip.compress(text.getvalue().encode(), mtime=0))
    else:
        replace_text(path, text.getvalue())
    return count


def import_csv(store: MeasurementStore, path: Path) -> tuple[int, int]:
    """Add what a file holds and the store does not; returns (added, known already).

    Raises:
        DeviceError: rows are damaged; every problem is named, and nothing is added.
    """
    found = read_csv(path)
    added = store.add_new(found)
    return added, len(found) - added


def read_csv(path: Path) -> list[Measurement]:
    """Read a file that `export_csv` wrote, or one by hand with at least the first six columns.

    Raises:
        DeviceError: it cannot be read, or rows are damaged; every problem is named.
    """
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        text = content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DeviceError(
            f"{path}: cannot be read as measurements ({error}); expected a CSV file with the "
            f"columns {', '.join(_NEEDED)}"
        ) from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    heads = [head or "" for head in reader.fieldnames or ()]
    lacking = [name for name in _NEEDED if name not in heads]
    unknown = [head for head in heads if head not in (*_NEEDED, *_OPTIONAL)]
    problems = []
    if lacking:
        problems.append(f"no column {', '.join(lacking)}")
    if unknown:
        problems.append(f"unknown column {', '.join(map(repr, unknown))}")
    found: list[Measurement] = []
    if not problems:
        for row in reader:
            try:
                found.append(_read(row))
            except (ValueError, TypeError, HwnasError) as error:
                problems.append(f"line {reader.line_num}: {error}")
        if not found and not problems:
            problems.append("no rows")
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise DeviceError(
            f"{path}: {count}; nothing was taken from it\n"
            + problem_lines(problems, _MOST_PROBLEMS)
            + f"\nexpected columns {', '.join(_NEEDED)} and, if known, {', '.join(_OPTIONAL)}"
        )
    return found


def _read(row: Mapping[str | None, Any]) -> Measurement:
    if None in row or None in row.values():
        raise ValueError("it has more or fewer cells than the head has columns")
    cells: dict[str, str] = {str(name): cell for name, cell in row.items()}
    empty = [name for name in ("key", "fingerprint", "runner") if not cells[name].strip()]
    if empty:
        raise ValueError(f"no {', '.join(empty)}")
    for name, allowed in (("subject", get_args(Subject)), ("status", get_args(Status))):
        if cells[name] not in allowed:
            raise ValueError(f"{name} is {cells[name]!r}; expected {', '.join(allowed)}")
    details = json.loads(cells.get("details") or "{}")
    if not isinstance(details, dict):
        raise ValueError("details is no JSON object")
    return Measurement(
        subject=cast(Subject, cells["subject"]),
        key=cells["key"],
        fingerprint=cells["fingerprint"],
        runner=cells["runner"],
        status=cast(Status, cells["status"]),
        value_ms=_number("value_ms", cells["value_ms"]),
        repeats_ms=tuple(
            _positive("repeats_ms", cell) for cell in cells.get("repeats_ms", "").split()
        ),
        reference_ms=_number("reference_ms", cells.get("reference_ms", "")),
        clean=int(cells.get("clean") or 0),
        message=cells.get("message", ""),
        measured_at=cells.get("measured_at", ""),
        details=details,
    )


def _number(name: str, cell: str) -> float | None:
    return None if not cell.strip() else _positive(name, cell)


def _positive(name: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        raise ValueError(f"{name} is {cell!r}; expected milliseconds as a number") from None
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} is {cell}; expected a positive number of milliseconds")
    return value
