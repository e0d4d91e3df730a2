"""How often a kernel runs in one sample."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from hwnas.device import DeviceProfile
from hwnas.measure.program import Program
from hwnas.measure.samples import Sample, Timed

__all__ = ["cold_bytes_of", "copies_for", "copies_of"]

_SAMPLE_MS: Final = (0.2, 5.0)
_MOST_COPIES: Final = 64
_L2_BYTES: Final = 2**20


def cold_bytes_of(device: DeviceProfile) -> int:
    """How many bytes of constants do not stay in the device's second-level cache."""
    return 2 * device.cache_bytes.get("l2", _L2_BYTES)


def copies_of(once: Timed, program: Program, cold_bytes: int) -> int:
    """As `copies_for`, for a program of a single call."""
    sizes = (c.elems * np.dtype(c.dtype).itemsize for c in program.constants.values())
    return copies_for(once, sum(sizes), cold_bytes)


def copies_for(once: Timed, constant_bytes: int, cold_bytes: int) -> int:
    """Return how often a kernel runs in one sample, each time on other constants.

    So often that constants do not stay in the second-level cache (in a network they never do), and
    that a sample is long against the clock's grain; but it must fit a time slice.
    """
    shortest, longest = _SAMPLE_MS
    call_ms = min(_own_ms(sample) for _ in range(3) for sample in once())
    cold = math.ceil(cold_bytes / constant_bytes) if constant_bytes else 1
    wanted = max(cold, math.ceil(shortest / call_ms))
    return max(1, min(wanted, math.floor(longest / call_ms), _MOST_COPIES))


def _own_ms(sample: Sample) -> float:
    """What a call takes by itself: its wall time may hold that of others, who were let in."""
    return sample.wall_ms if sample.cpu_ms is None else min(sample.cpu_ms, sample.wall_ms)
