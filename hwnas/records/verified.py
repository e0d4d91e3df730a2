"""Predicted against measured: the best designs of a search, timed on the device."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from hwnas.errors import RunError
from hwnas.records.run_folder import RunFolder

__all__ = ["Verification", "VerifiedDesign", "read_verified", "write_verified"]

_FILE, _TABLE = "verified.json", "verified.csv"

_PERCENT = 100.0
_SLOW = 1.05  # of the reference kernel's usual time; it repeats within 3 % on an idle machine


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedDesign:
    """One design: what was predicted of it and what was measured, in the unit of the cost.

    Attributes:
        arch_id: Which design.
        predicted: The value that the search went by.
        lo: Lower end of its interval; None where none is known.
        hi: Upper end, likewise.
        measured: None where the measurement failed; `message` then says why.
        status: Of the measurement.
        message: Why it failed or is noisy; empty if neither.
        broken: The limits that the measured value breaks, as `latency<=20`.
        slowdown: Time of the reference kernel beside it over what is usual on the device: far
            above 1, the device was slower than when the predictor's times were taken. None where
            nothing is known to compare with.
    """

    arch_id: str
    predicted: float
    lo: float | None = None
    hi: float | None = None
    measured: float | None = None
    status: Literal["ok", "noisy", "failed"] = "ok"
    message: str = ""
    broken: tuple[str, ...] = ()
    slowdown: float | None = None

    @property
    def difference_pct(self) -> float | None:
        """(measured - predicted) / predicted: positive where the design is slower than promised."""
        if self.measured is None or not self.predicted:
            return None
        return _PERCENT * (self.measured - self.predicted) / self.predicted

    @property
    def inside(self) -> bool | None:
        """Whether the measured value lies in the predicted interval; None where one is missing."""
        if self.measured is None or self.lo is None or self.hi is None:
            return None
        return self.lo <= self.measured <= self.hi


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Designs of one search, measured by one runner on one device.

    Attributes:
        cost: The predicted cost model, its `unit` that of every number.
        fidelity: What kind of prediction it is.
        runner: What ran the designs, with its version.
        fingerprint: Of the device that they ran on.
        prompts: Prompts in a measured time.
        wanted: How many designs were to be measured; fewer are here after an interruption.
        designs: In the order of measuring.
    """

    cost: str
    unit: str
    fidelity: str
    runner: str
    fingerprint: str
    prompts: int
    wanted: int
    designs: tuple[VerifiedDesign, ...]

    @property
    def measured(self) -> tuple[VerifiedDesign, ...]:
        """Those with a measured value."""
        return tuple(d for d in self.designs if d.measured is not None)

    def sentences(self) -> tuple[str, ...]:
        """What a reader must not miss: the verdict, each broken limit, what could not be said."""
        found = [self._verdict()] if self.measured else []
        found += [
            f"The limit {limit} is broken by design {d.arch_id}: {self.cost} {d.predicted:.4g} "
            f"{self.unit} predicted, {d.measured:.4g} {self.unit} measured."
            for d in self.measured
            for limit in d.broken
        ]
        found += [
            f"Design {d.arch_id} could not be measured: {d.message}"
            for d in self.designs
            if d.measured is None
        ]
        slow = [d.slowdown for d in self.measured if d.slowdown and d.slowdown > _SLOW]
        if slow:
            found.append(
                f"Beside {len(slow)} of them the reference kernel, always the same, took up to "
                f"{100 * (max(slow) - 1):.0f} % longer than usual: the device was slower than "
                "when the predictor's times were taken. Verify again with nothing else on it."
            )
        if len(self.designs) < self.wanted:
            found.append(f"{len(self.designs)} of {self.wanted} designs are measured so far.")
        return tuple(found)

    def _verdict(self) -> str:
        judged = [d for d in self.measured if d.inside is not None]
        inside = sum(bool(d.inside) for d in judged)
        errors = [abs(d.difference_pct or 0.0) for d in self.measured]
        told = f", {inside} of {len(judged)} inside the predicted interval" if judged else ""
        return (
            f"{len(self.measured)} designs were measured by {self.runner}: {self.cost} differs by "
            f"{sum(errors) / len(errors):.1f} % on average, {max(errors):.1f} % at most{told}."
        )

    def to_json(self) -> str:
        """The whole as JSON, with difference and verdict of each design."""
        designs = [_row(design) for design in self.designs]
        return json.dumps(asdict(self) | {"designs": designs}, indent=1, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """One row a design; empty cells for what is not known."""
        text = io.StringIO()
        head = {"cost": self.cost, "unit": self.unit, "fidelity": self.fidelity}
        tail = {"prompts": self.prompts, "runner": self.runner, "fingerprint": self.fingerprint}
        rows = [
            {**head, **_row(design), "broken": "; ".join(design.broken), **tail}
            for design in self.designs
        ]
        writer = csv.DictWriter(text, list(rows[0]) if rows else ["arch_id"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read `to_json` back.

        Raises:
            RunError: it is something else.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            designs = tuple(map(_design, fields["designs"]))
            return cls(**{**fields, "designs": designs})
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"verified.json is damaged ({error!r}); remove it, its designs are measured again"
            ) from error


def read_verified(folder: RunFolder) -> Verification | None:
    """The verification of a run; None where there is none yet.

    Raises:
        RunError: it is damaged.
    """
    if not (folder.path / _FILE).exists():
        return None
    return Verification.from_json(folder.read_text(_FILE))


def write_verified(folder: RunFolder, verification: Verification) -> None:
    """Replace `verified.json` and `verified.csv`.

    Raises:
        RunError: they cannot be written.
    """
    folder.write_text(_FILE, verification.to_json())
    folder.write_text(_TABLE, verification.to_csv())


def _row(design: VerifiedDesign) -> dict[str, Any]:
    return asdict(design) | {
        "broken": list(design.broken),
        "difference_pct": design.difference_pct,
        "inside": design.inside,
    }


def _design(fields: Mapping[str, Any]) -> VerifiedDesign:
    given = {k: v for k, v in fields.items() if k not in ("difference_pct", "inside")}
    return VerifiedDesign(**{**given, "broken": tuple(fields["broken"])})
