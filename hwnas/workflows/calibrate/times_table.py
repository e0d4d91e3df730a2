"""Reading a CSV of architectures and times, in whatever columns a user has them.

Architectures: a column for each gene, called as the gene or `gene.<gene>`, empty where the gene is
absent; or one column `arch` with JSON (`{"resolution": 224, ...}`, or what `Arch.to_json` writes).
Times: `time_ms`, `time_ms.<repeat>`, `time_ms.<device>`, `time_ms.<device>.<repeat>`, with
`latency` for `time` and `us`, `s` for `ms` as well; a repeat is a whole number. Any other naming is
told by a pattern such as `lat_{device}_run{repeat}`, whose `*` stands for anything. Empty cells,
`nan` and `failed` are measurements that failed.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import ArchError, DataError, problem_lines
from hwnas.space import Arch, Archs, SearchSpace

__all__ = ["Series", "TimesTable", "read_times"]

Float = NDArray[np.float64]
_USUAL = re.compile(
    r"(?:time|latency)_(?P<unit>ms|us|s)(?:\.(?P<device>[^.]*[^.\d][^.]*))?(?:\.(?P<repeat>\d+))?$"
)
_TO_MS = {"s": 1e3, "ms": 1.0, "us": 1e-3}
_UNIT_ENDING = re.compile(r"(?:^|[^A-Za-z])(s|ms|us)(?:$|[^A-Za-z])")
_FAILED = {"", "nan", "none", "null", "na", "n/a", "failed", "timeout"}
_MOST_PROBLEMS = 10


@dataclass(frozen=True, eq=False)
class Series:
    """The times of one device.

    Attributes:
        device: What the columns call it; empty where they name none.
        columns: The columns, one a repeat.
        ms: Milliseconds, (n, repeats), NaN where one failed.
        text: Cells that are no number, by line.
    """

    device: str
    columns: tuple[str, ...]
    ms: Float
    text: Mapping[int, str]


@dataclass(frozen=True, eq=False)
class TimesTable:
    """Architectures (n) with the times of one or several devices; `lines` (n,) are the file's."""

    path: Path
    archs: Archs
    lines: tuple[int, ...]
    series: tuple[Series, ...]
    ignored: tuple[str, ...]


def read_times(path: Path, space: SearchSpace, *, pattern: str | None = None) -> TimesTable:
    """Read architectures and times.

    Args:
        path: the CSV.
        space: the space of the architectures.
        pattern: names of the columns of times, with `{device}`, `{repeat}` and `*`.

    Raises:
        DataError: the file cannot be read, has no times, or rows are no architectures of the
            space; all problems at once.
    """
    header, rows = _rows(path)
    found = _time_columns(header, pattern, path)
    times = {column for columns in found.values() for column, _ in columns}
    genes = _gene_columns(header, space, taken=times)
    archs, problems = [], []
    for line, row in rows:
        try:
            archs.append(_arch(space, row, genes))
        except (ArchError, ValueError) as error:
            problems.append(f"line {line}: {' '.join(str(error).split())}")
    if problems:
        raise DataError(
            f"{path}: {len(problems)} of {len(rows)} rows are no architectures of {space.name}\n"
            + problem_lines(problems, _MOST_PROBLEMS)
        )
    used = times.union(genes.values())
    series = tuple(_series(device, columns, rows) for device, columns in found.items())
    return TimesTable(
        path, Archs.of(space, archs), tuple(line for line, _ in rows), series,
        tuple(name for name in header if name not in used),
    )  # fmt: skip


def _rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            rows, ragged = [], []
            for row in reader:
                if None in row or None in row.values():
                    ragged.append(reader.line_num)
                elif any(cell.strip() for cell in row.values()):
                    rows.append((reader.line_num, {k: v.strip() for k, v in row.items()}))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"cannot read {path} as CSV: {error}; give a UTF-8 file with commas"
        ) from error
    twice = sorted({name for name in header if header.count(name) > 1})
    problems = [f"column {name!r} is there more than once" for name in twice]
    if ragged:
        shown = ", ".join(map(str, ragged[:5]))
        problems.append(f"{len(ragged)} rows have another number of cells than the header: {shown}")
    if not rows and not problems:
        problems.append("no rows; expected a header and one row an architecture")
    if problems:
        raise DataError(f"{path}: " + "; ".join(problems))
    return header, rows


def _time_columns(
    header: Sequence[str], pattern: str | None, path: Path
) -> dict[str, list[tuple[str, float]]]:
    """Columns of each device in the order of their repeats, each with what makes it ms."""
    named = _USUAL if pattern is None else _compiled(pattern)
    found: dict[str, list[tuple[int, str, float]]] = {}
    for name in header:
        match = named.match(name)
        if match is None:
            continue
        parts = match.groupdict()
        unit = parts.get("unit") or _unit_of(pattern or name)
        at = int(parts["repeat"]) if parts.get("repeat") else 0
        found.setdefault(parts.get("device") or "", []).append((at, name, _TO_MS[unit]))
    if not found:
        expected = pattern or "time_ms, time_ms.<repeat>, time_ms.<device>.<repeat>"
        raise DataError(
            f"{path}: no column of times; expected {expected}, the file has {', '.join(header)}: "
            "rename them, or name them with --time-columns, for example 'lat_{device}_{repeat}'"
        )
    # numbered repeats in their order; others as they stand in the file
    return {d: [(n, f) for _, n, f in sorted(c, key=lambda x: x[0])] for d, c in found.items()}


def _compiled(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\{device\}|\{repeat\}|\*)", pattern)
    known = {"{device}": "(?P<device>.+?)", "{repeat}": r"(?P<repeat>\d+)", "*": ".*"}
    for name in ("{device}", "{repeat}"):
        if parts.count(name) > 1:
            raise DataError(f"--time-columns {pattern}: {name} is there more than once")
    return re.compile("".join(known.get(part, re.escape(part)) for part in parts) + "$")


def _unit_of(name: str) -> str:
    """The unit that a name or pattern spells (`lat_us_{repeat}`); ms where it spells none."""
    found = _UNIT_ENDING.findall(re.sub(r"\{\w+\}", " ", name).replace("_", " "))
    return str(found[-1]) if found else "ms"


def _gene_columns(header: Sequence[str], space: SearchSpace, taken: set[str]) -> dict[str, str]:
    """Column of each gene, or of `arch` where there is such a column."""
    if "arch" in header and "arch" not in taken:
        return {"arch": "arch"}
    names = {gene.name for gene in space.whole.genes}
    out = {}
    for column in header:
        name = column.removeprefix("gene.") if column not in names else column
        if name in names and column not in taken:
            out[name] = column
    return out


def _arch(space: SearchSpace, row: Mapping[str, str], genes: Mapping[str, str]) -> Arch:
    if genes.keys() == {"arch"} and "arch" not in {gene.name for gene in space.genes}:
        content = json.loads(row["arch"])
        if isinstance(content, dict) and isinstance(content.get("genes"), dict):
            content = content["genes"]
        if not isinstance(content, dict):
            raise ArchError(f"{row['arch']!r}: expected JSON of genes")
        return space.arch(content)
    cells = {name: row[column] for name, column in genes.items() if row[column] != ""}
    return space.arch({name: _option(space, name, cell) for name, cell in cells.items()})


def _option(space: SearchSpace, name: str, cell: str) -> object:
    """The option of a gene that a cell spells: as text, or as an equal number; else the text."""
    number = _number(cell)
    for option in space.gene(name).options:
        if str(option) == cell or (not isinstance(option, str) and number == float(option)):
            return option
    return cell if number is None else number


def _series(
    device: str, columns: Sequence[tuple[str, float]], rows: Sequence[tuple[int, dict[str, str]]]
) -> Series:
    ms = np.full((len(rows), len(columns)), np.nan)
    text: dict[int, str] = {}
    for i, (line, row) in enumerate(rows):
        for j, (name, factor) in enumerate(columns):
            cell = row[name]
            value = _number(cell)
            if value is not None:
                ms[i, j] = value * factor
            elif cell.lower() not in _FAILED:
                text.setdefault(line, cell)
    return Series(device, tuple(name for name, _ in columns), ms, text)


def _number(cell: Any) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return None if math.isnan(value) else value
