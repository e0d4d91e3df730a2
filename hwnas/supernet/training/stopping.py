"""Ctrl-C and SIGTERM end a stage between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["StopSignals"]


class StopSignals:
    """Notes Ctrl-C and SIGTERM in `caught` instead of ending the process, within a `with` block.

    A second signal raises KeyboardInterrupt at once, as does a first one within `at_once`.
    Outside the main thread signals cannot be caught, and nothing is changed.
    """

    def __init__(self) -> None:
        self.caught = False
        self._at_once = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal raise KeyboardInterrupt within the block, or before it if there was one."""
        if self.caught:
            raise KeyboardInterrupt
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self.caught or self._at_once:
            raise KeyboardInterrupt
        self.caught = True
