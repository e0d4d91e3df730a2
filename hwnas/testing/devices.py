"""What every device profile must keep."""

from __future__ import annotations

from pathlib import Path

from hwnas.device import DeviceProfile, check

__all__ = ["check_device"]


def check_device(device: DeviceProfile | str | Path) -> list[str]:
    """Return the errors of a device profile, given itself, by name or by path of its file.

    Remarks that leave it usable (a recalled figure, no calibration) are not among them;
    `hwnas devices check` prints those too.

    Raises:
        DeviceError: no file is found under the name.
    """
    return [finding.message for finding in check(device) if finding.level == "error"]
