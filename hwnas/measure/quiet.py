"""Whether the machine is as fast as it can be, told by a fixed kernel that runs again and again.

The neighbors of a virtual machine slow it down by a third for some tenths of a second, then leave
it alone; so does heat, for longer. The processor time of a kernel grows with its wall time then, so
only another kernel, whose time is known, shows it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

import numpy as np

__all__ = ["Quiet"]

_TOLERANCE: Final = 0.06
_MEMORY: Final = 500
_BEST: Final = 0.05  # quantile: a single lucky time must not make all others look slow
_PAUSE_S: Final = 0.005


class Quiet:
    """Remembers how fast the reference can be, over all that one worker times.

    Only the latest 500 times count, so that a machine whose clock was changed is not called slow
    for ever.
    """

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=_MEMORY)

    def accepts(self, ms: float) -> bool:
        """Take note of a time of the reference; say whether it is within 6 % of its best."""
        self._recent.append(ms)
        return ms <= (1 + _TOLERANCE) * float(np.quantile(self._recent, _BEST))

    def wait(
        self,
        probe: Callable[[], float],
        patience_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> tuple[bool, bool]:
        """Probe until the reference is fast, for at most so long.

        Returns:
            Whether the first probe, which comes right after what ran before, was fast, and whether
            the last one was.
        """
        first = now = self.accepts(probe())
        end = None if now else clock() + patience_s
        while not now and end is not None and clock() < end:
            pause(_PAUSE_S)
            now = self.accepts(probe())
        return first, now
