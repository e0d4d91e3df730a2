"""One timing of a kernel or of a whole network, with everything it belongs to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from hwnas.errors import DeviceError

__all__ = ["Measurement", "Status", "Subject"]

Subject = Literal["kernel", "subnet", "reference"]
Status = Literal["ok", "noisy", "failed"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """A sample: a value with its repeats, or a failure with its reason.

    Attributes:
        subject: What was timed: a kernel, a whole subnet, or the fixed kernel that tells how fast
            the machine is at the moment.
        key: A `Kernel.key`, or the id of an arch with what the time includes (`<id>-1prompts`).
        fingerprint: `DeviceProfile.fingerprint`: processor, runtime, threads, power mode.
        runner: Who ran it: tvm, tvm-rpc, onnxruntime or torch, with its version.
        status: `noisy`: a value, but fewer clean repeats than asked. `failed`: no value.
        value_ms: The protocol's statistic of the clean repeats; None if it failed.
        repeats_ms: All repeats in the order in which they ran, wall time of one call.
        reference_ms: The reference kernel's time in the same rounds; None if it was not run.
        clean: How many repeats were not disturbed.
        message: Why it failed or is noisy; empty if neither.
        measured_at: UTC, ISO 8601.
        details: Plain JSON: the arch's genes of a subnet, clocks, prompts, the session.
    """

    subject: Subject
    key: str
    fingerprint: str
    runner: str
    status: Status
    value_ms: float | None
    repeats_ms: tuple[float, ...] = ()
    reference_ms: float | None = None
    clean: int = 0
    message: str = ""
    measured_at: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        good = self.value_ms is not None and math.isfinite(self.value_ms) and self.value_ms > 0
        if good == (self.status == "failed"):
            raise DeviceError(
                f"measurement of {self.key}: status {self.status!r} and value {self.value_ms} ms; "
                "a failed one has no value, any other a positive one"
            )

    @property
    def calm_share(self) -> float:
        """Share of its repeats that nothing disturbed; 1 where the repeats were not kept."""
        return self.clean / len(self.repeats_ms) if self.repeats_ms else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self) | {"repeats_ms": list(self.repeats_ms), "details": dict(self.details)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Read `to_dict` back."""
        return cls(**{**fields, "repeats_ms": tuple(fields.get("repeats_ms", ()))})
