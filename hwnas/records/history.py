"""Reading `evaluations.jsonl` back, after any kind of end."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from hwnas.errors import RunError
from hwnas.records.evaluation import Evaluation
from hwnas.records.files import explained

__all__ = ["History", "read_history"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class History:
    """The whole lines of a file, and how many bytes of it they fill."""

    evaluations: tuple[Evaluation, ...]
    whole_bytes: int


def read_history(path: Path) -> History:
    """Read every whole line; a last line that was cut off by a kill is dropped.

    Raises:
        RunError: a line before the last is damaged (the message has its number), or the file
            cannot be read.
    """
    if not path.exists():
        return History((), 0)
    with explained("read", path):
        lines = path.read_bytes().split(b"\n")
    torn = lines.pop()  # empty after a final newline
    evaluations: list[Evaluation] = []
    whole_bytes = 0
    for number, line in enumerate(lines, start=1):
        try:
            evaluations.append(Evaluation.from_json(line.decode()))
        except (RunError, UnicodeDecodeError) as error:
            if number == len(lines) and not torn:
                torn = line
                break
            raise RunError(
                f"{path}, line {number} is damaged: {error}; restore the file from a backup, "
                "or cut it off before that line: what follows is then evaluated again"
            ) from error
        whole_bytes += len(line) + 1
    if torn:
        _log.warning("%s: dropped a torn last line of %d bytes", path, len(torn))
    return History(tuple(evaluations), whole_bytes)
