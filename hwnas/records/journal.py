"""An append-only file of evaluations that a kill at any instant leaves readable."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hwnas.records.evaluation import Evaluation
from hwnas.records.files import append_text, explained
from hwnas.records.history import read_history

__all__ = ["Journal"]


class Journal:
    """One line an evaluation; a torn last line is cut off when the file is opened."""

    def __init__(self, path: Path) -> None:
        """Read and open the file, which is made where there is none.

        Raises:
            RunError: a line is damaged, or the file cannot be written.
        """
        self._path = path
        history = read_history(path)
        with explained("open", path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            os.ftruncate(self._descriptor, history.whole_bytes)
        self._evaluations = list(history.evaluations)

    @property
    def evaluations(self) -> Sequence[Evaluation]:
        """Every line, in the order of writing."""
        return tuple(self._evaluations)

    def append(self, *evaluations: Evaluation) -> None:
        """Append lines, all in one write.

        Raises:
            RunError: they cannot be written; the file then ends where it ended before.
        """
        text = "".join(f"{evaluation.to_json()}\n" for evaluation in evaluations)
        append_text(self._descriptor, self._path, text)
        self._evaluations.extend(evaluations)

    def sync(self) -> None:
        """Wait until what was appended is on the disk.

        Raises:
            RunError: the disk refuses.
        """
        with explained("write", self._path):
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
