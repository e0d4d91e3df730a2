"""What a latency calibration tells its user: how good, against what, and how good it could be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hwnas.calibration.accuracy import Accuracy

__all__ = ["CalibrationReport"]


@dataclass(frozen=True)
class CalibrationReport:
    """One device, one space.

    Attributes:
        device: Name of the device or series.
        space: Name of the space.
        structure: What the predictor consists of.
        fitted_on: Architectures that the judged fit saw; the saved one is fitted on all.
        held_out: Others, that judge it; none was picked by a model. 0 where each of those fitted
            on is left out in turn instead.
        accuracy: Predictions of the held-out ones.
        coverage: Share of them inside their interval; None where there is no interval.
        level: Share that the interval is meant to cover.
        half_width: Half of the interval, relative to the value, as a share; None without.
        noise: How well two measurements agree; None where nothing was repeated.
        noise_source: Which measurements were compared, in words.
        baselines: The same held-out ones by simpler means.
        curve: Accuracy by number of architectures that were fitted on.
        tried: Cross-validated MAPE of the structures that were tried, percent.
        remarks: What the user should know.
    """

    device: str
    space: str
    structure: str
    fitted_on: int
    held_out: int
    accuracy: Accuracy
    coverage: float | None
    level: float
    half_width: float | None
    noise: Accuracy | None
    noise_source: str
    baselines: Mapping[str, Accuracy]
    curve: Mapping[int, Accuracy]
    tried: Mapping[str, float]
    remarks: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        plain = {
            "accuracy": self.accuracy.to_dict(),
            "noise": None if self.noise is None else self.noise.to_dict(),
            "baselines": {name: a.to_dict() for name, a in self.baselines.items()},
            "curve": {str(n): a.to_dict() for n, a in self.curve.items()},
            "tried": dict(self.tried),
            "remarks": list(self.remarks),
        }
        return {**self.__dict__, **plain}

    def rows(self) -> list[dict[str, object]]:
        """The table for people: the predictor, the noise floor, baselines, learning curve."""
        rows = [{"what": f"predictor: {self.structure}", **self.accuracy.row()}]
        if self.noise is not None:
            rows.append({"what": f"noise floor: {self.noise_source}", **self.noise.row()})
        rows += [{"what": f"baseline: {n}", **a.row()} for n, a in self.baselines.items()]
        rows += [{"what": f"fitted on {n} only", **a.row()} for n, a in self.curve.items()]
        return rows

    def sentences(self) -> list[str]:
        """What the table does not say."""
        found = [
            f"{self.device}, {self.space}: judged on {self.held_out} held-out architectures by a "
            f"fit on {self.fitted_on}; the saved predictor is fitted on all "
            f"{self.fitted_on + self.held_out}"
            if self.held_out
            else f"{self.device}, {self.space}: judged on all {self.fitted_on} architectures, each "
            "by a fit without it"
        ]
        if self.coverage is not None and self.half_width is not None:
            found.append(
                f"interval: {self.coverage:.0%} of the {'held-out' if self.held_out else 'same'} "
                "ones lie in it, "
                f"{self.level:.0%} are meant to; +-{self.half_width:.1%} of the value"
            )
        else:
            found.append("interval: too few architectures for one")
        if self.noise is None:
            found.append(f"noise floor: unknown, {self.noise_source}")
        return [*found, *self.remarks]
