"""One evaluated architecture, and its line in `evaluations.jsonl`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hwnas.errors import RunError

__all__ = ["Evaluation", "Scalar", "Status"]

Scalar = str | int | float | bool
Status = Literal["ok", "failed"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one architecture cost, in natural signs and units.

    `values` holds one finite number for each cost model that answered, so a failed evaluation lacks
    some; it never holds a stand-in. `intervals` holds (low, high) where a model gave them.
    `fidelity` says for each model what kind of number it is (analytic, estimated, measured, ...).
    `breakdown` is cost by part, `seconds` the share of the wall clock, `index` the position in the
    run, from 0.

    Raises:
        ValueError: a value is not finite, or a failure has no message.
    """

    arch_id: str
    genes: Mapping[str, Scalar]
    values: Mapping[str, float]
    status: Status = "ok"
    message: str = ""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    fidelity: Mapping[str, str] = field(default_factory=dict)
    breakdown: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    seconds: float = 0.0
    index: int = 0

    def __post_init__(self) -> None:
        for name, value in self.values.items():
            if not math.isfinite(value):
                raise ValueError(f"{self.arch_id}: {name}={value}; only finite values are recorded")
        if self.status == "failed" and not self.message:
            raise ValueError(f"{self.arch_id}: a failed evaluation needs its message")

    def to_json(self) -> str:
        """One line of JSON without the newline; floats survive the round trip to the last bit."""
        line: dict[str, Any] = {
            "index": self.index,
            "arch_id": self.arch_id,
            "status": self.status,
            "values": dict(self.values),
        }
        if self.message:
            line["message"] = self.message
        if self.intervals:
            line["intervals"] = {name: list(ends) for name, ends in self.intervals.items()}
        if self.fidelity:
            line["fidelity"] = dict(self.fidelity)
        if self.breakdown:
            line["breakdown"] = {name: dict(parts) for name, parts in self.breakdown.items()}
        line["seconds"] = self.seconds
        line["genes"] = dict(self.genes)
        return json.dumps(line, allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Evaluation:
        """Read one line of `to_json`.

        Raises:
            RunError: the line is not JSON, or lacks a field.
        """
        try:
            found: dict[str, Any] = json.loads(line)
            intervals = {name: (lo, hi) for name, (lo, hi) in found.get("intervals", {}).items()}
            return cls(
                arch_id=found["arch_id"],
                genes=found["genes"],
                values=found["values"],
                status=found["status"],
                message=found.get("message", ""),
                intervals=intervals,
                fidelity=found.get("fidelity", {}),
                breakdown=found.get("breakdown", {}),
                seconds=found["seconds"],
                index=found["index"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"not an evaluation: {line[:80]!r} ({error!r})") from error
