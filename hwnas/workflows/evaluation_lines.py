"""A file of evaluated subnets that is appended to, and taken up again after a kill."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from hwnas.errors import RunError
from hwnas.records.files import append_text, explained

__all__ = ["EvaluationLines", "refuse_existing"]

_KEY = ("arch_id", "prompt", "split", "supernet", "images", "objects")


class EvaluationLines:
    """JSON lines on disk; one process at a time, and each line whole or absent.

    Raises:
        RunError: the file exists and `resume` was not asked for; another process writes it; a line
            before the last is damaged.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        if not resume:
            refuse_existing(path)
        self.path = path
        with explained("open", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            self._lock()
            self._lines = {_key(line): line for line in self._read()}
        except BaseException:
            os.close(self._descriptor)
            raise

    def find(self, facts: Mapping[str, Any]) -> dict[str, Any] | None:
        """The line of this subnet, prompt, split, supernet and images, if there is one."""
        return self._lines.get(_key(facts))

    def append(self, line: Mapping[str, Any]) -> None:
        """Write one line."""
        text = json.dumps(dict(line), allow_nan=False, separators=(",", ":"))
        append_text(self._descriptor, self.path, text + "\n")
        self._lines[_key(line)] = dict(line)

    def __enter__(self) -> EvaluationLines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(
                f"{self.path} is being written by another process; wait for it, or stop it"
            ) from error

    def _read(self) -> list[dict[str, Any]]:
        """Every whole line; what a kill has left of a last one is cut off."""
        with explained("read", self.path):
            *whole, torn = self.path.read_bytes().split(b"\n")
        lines = []
        for number, text in enumerate(whole, start=1):
            try:
                line = json.loads(text)
                if not isinstance(line, dict) or "arch_id" not in line:
                    raise ValueError("no arch_id")
            except ValueError as error:
                raise RunError(
                    f"{self.path}, line {number} is damaged ({error}); remove it, its subnet is "
                    "then evaluated again"
                ) from error
            lines.append(line)
        if torn:
            with explained("repair", self.path):
                os.ftruncate(self._descriptor, sum(len(text) + 1 for text in whole))
        return lines


def _key(facts: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(facts.get(name) for name in _KEY)


def refuse_existing(path: Path) -> None:
    """Raise RunError where the file exists."""
    if path.exists():
        raise RunError(
            f"{path} exists already; continue it with --resume, or choose another file with --out"
        )
