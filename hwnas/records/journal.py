"""The append-only file of evaluations of a run."""

from __future__ import annotations

from pathlib import Path

from hwnas.records.evaluation import Evaluation
from hwnas.records.lines import AppendedLines

__all__ = ["Journal"]


class Journal(AppendedLines[Evaluation]):
    """One line an evaluation.

    Raises:
        RunError: a line is damaged, or the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(
            path, Evaluation.from_json, Evaluation.to_json,
            advice="restore the file from a backup, or cut it off before that line: what follows "
            "is then evaluated again",
        )  # fmt: skip
