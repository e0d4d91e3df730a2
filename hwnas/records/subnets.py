"""Evaluated subnets: one line of JSON for each, written by `hwnas evaluate --archs`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hwnas.errors import DataError, problem_lines
from hwnas.records.evaluation import Scalar
from hwnas.records.files import read_packed_text

__all__ = ["EvaluatedSubnet", "read_subnets", "subnets_file"]

_NEEDED = ("arch_id", "genes", "iou")
_MOST_PROBLEMS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedSubnet:
    """The quality of one subnet on one split under one kind of prompt.

    `iou` and `boundary_iou` are means between 0 and 1, `error` is the standard error of `iou`;
    `bitops` and `system_bitops` are in GBitOPs. `supernet` identifies the weights
    (`hwnas.supernet.identity`). `metric` says what `iou` is where it is no mean IoU: another share
    between 0 and 1. What is not known is None.
    """

    arch_id: str
    genes: Mapping[str, Scalar]
    iou: float
    error: float | None = None
    boundary_iou: float | None = None
    prompt: str | None = None
    split: str | None = None
    images: int | None = None
    objects: int | None = None
    bitops: float | None = None
    system_bitops: float | None = None
    supernet: str | None = None
    metric: str | None = None

    def to_json(self) -> str:
        """One line without the newline."""
        line = {field.name: getattr(self, field.name) for field in fields(self)}
        line["genes"] = dict(self.genes)
        if self.metric is None:
            del line["metric"]
        return json.dumps(line, allow_nan=False, separators=(",", ":"))


def subnets_file(stem: Path) -> Path | None:
    """The file of evaluated subnets of that name, plain (`.jsonl`) or packed (`.jsonl.gz`)."""
    found = (stem.with_name(f"{stem.name}{ending}") for ending in (".jsonl", ".jsonl.gz"))
    return next((path for path in found if path.is_file()), None)


def read_subnets(path: str | Path) -> tuple[EvaluatedSubnet, ...]:
    """Read a file of evaluated subnets, packed by gzip where its name ends so.

    Keys that are not known are left alone.

    Raises:
        DataError: the file cannot be read or has no lines, or lines are damaged; all are named.
    """
    path = Path(path)
    try:
        lines = read_packed_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as evaluated subnets ({error}); expected a JSONL file that "
            "`hwnas evaluate --archs` wrote"
        ) from error
    found, problems = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(_subnet(json.loads(line)))
        except (ValueError, TypeError) as error:
            problems.append(f"line {number}: {error}")
    if problems:
        raise DataError(
            f"{path}: {len(problems)} of {len(lines)} lines are damaged\n"
            + problem_lines(problems, _MOST_PROBLEMS)
            + "\nwrite the file again with `hwnas evaluate --archs`, or remove these lines"
        )
    if not found:
        raise DataError(f"{path}: no lines; expected one evaluated subnet a line")
    return tuple(found)


def _subnet(content: Any) -> EvaluatedSubnet:
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    missing = [name for name in _NEEDED if content.get(name) is None]
    if missing:
        raise ValueError(f"no {', '.join(missing)}")
    iou = content["iou"]
    if isinstance(iou, bool) or not isinstance(iou, int | float) or not math.isfinite(iou):
        raise ValueError(f"iou is {iou!r}; expected a number")
    if not isinstance(content["genes"], dict):
        raise ValueError("genes is no mapping of names to values")
    known = {field.name for field in fields(EvaluatedSubnet)}
    return EvaluatedSubnet(**{k: v for k, v in content.items() if k in known})
