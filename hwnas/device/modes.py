"""From a device file to the profile of one of its modes."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from hwnas.device.efficiency import START_SOURCE, START_VALUES
from hwnas.device.profile import DeviceProfile
from hwnas.errors import DeviceError

if TYPE_CHECKING:
    from hwnas.device.fields import DeviceSpec

__all__ = ["NO_MODES", "profile_at"]

NO_MODES: Final = "default"
"""The mode of a device whose file has no modes."""


def profile_at(spec: DeviceSpec, mode: str | None, origin: str) -> DeviceProfile:
    """Apply the overrides of `mode` (None: the default mode) and fill in start values.

    Raises:
        DeviceError: the device has no such mode.
    """
    if mode is None:
        mode = spec.default_mode or NO_MODES
    known = list(spec.modes) or [NO_MODES]
    if mode not in known:
        near = get_close_matches(mode, known, n=1)
        hint = f"; did you mean {spec.id}:{near[0]}?" if near else ""
        raise DeviceError(f"{spec.id} has no mode {mode!r}{hint} Its modes: {', '.join(known)}")
    return DeviceProfile(_with_start_values(_with_overrides(spec, mode)), mode, origin)


def _with_overrides(spec: DeviceSpec, mode: str) -> DeviceSpec:
    if not spec.modes:
        return spec
    overrides = spec.modes[mode]
    single = ("threads", "bandwidth_gbps", "power_w", "launch_us", "calibration")
    update = {name: getattr(overrides, name) for name in single}
    update = {name: value for name, value in update.items() if value is not None}
    for name in ("peak_tops_dense", "efficiency"):
        update[name] = {**getattr(spec, name), **getattr(overrides, name)}
    return spec.model_copy(update=update)


def _with_start_values(spec: DeviceSpec) -> DeviceSpec:
    from hwnas.device.fields import Figure

    start = {
        kind: Figure(value=value, status="recalled", source=START_SOURCE)
        for kind, value in START_VALUES.items()
    }
    return spec.model_copy(update={"efficiency": {**start, **spec.efficiency}})
