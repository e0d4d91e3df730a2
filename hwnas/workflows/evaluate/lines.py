"""A file of evaluated subnets that is appended to, and taken up again after a kill."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwnas.errors import RunError
from hwnas.records.files import explained
from hwnas.records.lines import AppendedLines

__all__ = ["EvaluationLines", "refuse_existing"]

_KEY = ("arch_id", "prompt", "split", "supernet", "images", "objects")
Line = dict[str, Any]


class EvaluationLines(AppendedLines[Line]):
    """JSON lines on disk; one process at a time, and each line whole or absent.

    Raises:
        RunError: the file exists and `resume` was not asked for; another process writes it; a line
            before the last is damaged.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        if not resume:
            refuse_existing(path)
        with explained("create", path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(
            path, _parse, _spell, alone=True,
            advice="remove it, its subnet is then evaluated again",
        )  # fmt: skip
        self._known = {_key(line): line for line in self.records}

    def find(self, facts: Mapping[str, Any]) -> Line | None:
        """The line of this subnet, prompt, split, supernet and images, if there is one."""
        return self._known.get(_key(facts))

    def append(self, *records: Line) -> None:
        """Append lines."""
        super().append(*records)
        self._known |= {_key(line): line for line in records}


def _parse(text: str) -> Line:
    line = json.loads(text)
    if not isinstance(line, dict) or "arch_id" not in line:
        raise ValueError("no arch_id")
    return line


def _spell(line: Line) -> str:
    return json.dumps(line, allow_nan=False, separators=(",", ":"))


def _key(facts: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(facts.get(name) for name in _KEY)


def refuse_existing(path: Path) -> None:
    """Raise RunError where the file exists."""
    if path.exists():
        raise RunError(
            f"{path} exists already; continue it with --resume, or choose another file with --out"
        )
