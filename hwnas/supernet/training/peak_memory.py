"""The most memory that this process has held."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["peak_rss_bytes"]


def peak_rss_bytes() -> int | None:
    """Resident bytes at the peak, since the process began; None where the system does not say."""
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss would count the parent, from before exec
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"))
        if found:
            return int(found[1]) * 1024
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024
