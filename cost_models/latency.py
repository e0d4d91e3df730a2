"""Latency by the best means at hand: the calibrated predictor of a device, else the roofline.

Both are called `latency`, and both say what they are: `predicted` with an interval that covers a
share of cases, or `estimated` with one that rests on judgement.
"""

from __future__ import annotations

from pathlib import Path

from cost_models.latency_xgb import LatencyXGB
from cost_models.roofline import Roofline
from hwnas.cost import CostContext
from hwnas.device import DeviceProfile
from hwnas.errors import CostError

__all__ = ["Latency", "latency"]


class Latency:
    """Milliseconds by the calibrated predictor of the device, else by its roofline estimate.

    Called as a cost model's class is; what it returns is a `LatencyXGB` or a `Roofline`.
    """

    name = "latency"
    unit = "ms"
    direction = "min"
    needs = ("device",)

    def __call__(
        self, context: CostContext, *, prompts: int | None = None, predictor: str | None = None
    ) -> LatencyXGB | Roofline:
        """Milliseconds for one image and `prompts` prompts (1, or what was measured).

        Args:
            context: space and device.
            prompts: how many prompts the time includes.
            predictor: folder of a predictor that `hwnas calibrate` wrote; by default the one that
                the device's profile names for the space, if it names one.

        Raises:
            CostError: there is neither a device nor a predictor, or the predictor belongs to
                another space or device.
        """
        folder = Path(predictor) if predictor is not None else _calibrated(context)
        if folder is None:
            return Roofline(context, prompts=1 if prompts is None else prompts)
        return LatencyXGB.load(folder, context, prompts=prompts)


def _calibrated(context: CostContext) -> Path | None:
    """The predictor that the profile names for the space; None where it names none."""
    device: DeviceProfile = context.require("device", by="latency")
    record = device.calibration(context.space.name)
    if record is None or record.predictor is None:
        return None
    folder = Path(device.origin).parent / record.predictor
    if record.fingerprint != device.fingerprint:
        raise CostError(
            f"{device.origin}: calibrated as {record.fingerprint}, but the profile is now "
            f"{device.fingerprint}; calibrate again, or name another mode"
        )
    return folder


latency = Latency()
