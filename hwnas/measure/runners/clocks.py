"""The processor's clock, as far as the system tells."""

from __future__ import annotations

import os
from pathlib import Path

from hwnas.errors import DeviceError

__all__ = ["clocks", "refuse_unlocked"]

_CPUFREQ = Path("/sys/devices/system/cpu")


def clocks(root: Path = _CPUFREQ) -> float | None:
    """Return the present clock of the first processor that we may use, in MHz; None if unknown."""
    khz = _number(root, "scaling_cur_freq")
    return None if khz is None else khz / 1000


def refuse_unlocked(root: Path = _CPUFREQ) -> None:
    """Check that the clock is fixed, for a profile with `clock_policy: locked`.

    Raises:
        DeviceError: it may change, or nobody knows.
    """
    low, high = _number(root, "scaling_min_freq"), _number(root, "scaling_max_freq")
    if low is None or low != high:
        found = "is not known" if low is None or high is None else f"may be {low:g} to {high:g} kHz"
        raise DeviceError(
            f"the processor's clock {found}, and the device's protocol wants it locked; fix it "
            "(cpupower frequency-set), or write clock_policy: recorded in the device file"
        )


def _number(root: Path, name: str) -> float | None:
    first = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    try:
        return float((root / f"cpu{first}" / "cpufreq" / name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
