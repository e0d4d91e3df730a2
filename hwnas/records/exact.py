"""Exact designs that a search began with, and how far it ended from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from hwnas.errors import RunError
from hwnas.records.evaluation import Scalar
from hwnas.records.run_folder import RunFolder

__all__ = ["ExactDesign", "ExactStart", "read_exact", "write_exact"]

_FILE = "exact.json"
_SAME = 1e-9  # of the range: sums of floats in another order


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactDesign:
    """A design that no other of the space beats, and what the search has within its budget.

    Attributes:
        arch_id: Which design.
        genes: Of the design.
        values: Every cost of the search by name, natural signs.
        given: Whether the first population had it.
        gap: Share of the first objective's range that the solver left open; 0 is proved.
        found: The best first objective that the search ended with within the budget; None before
            its end, or where it has nothing there.
    """

    arch_id: str
    genes: Mapping[str, Scalar]
    values: Mapping[str, float]
    given: bool
    gap: float = 0.0
    found: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactStart:
    """The exact front of a search, or its exact optimum where there is one objective.

    Attributes:
        objective: What is optimized, with its `unit` and `direction`.
        budget: The second objective; None where there is one.
        budget_unit: Its unit.
        shared: Variables that were gone through one combination after the other.
        combinations: How many there are.
        complete: Whether `designs` are the whole front.
        seconds: That the integer programs took.
        limits_differ: Whether limits of the search hold against the end of an interval; those
            here hold against values.
        designs: Best first objective first.
        ended: Whether the search has ended, so that `found` is known.
        hypervolume_ratio: Of the search's front over that of the designs; None with one objective,
            or before the end.
    """

    objective: str
    unit: str
    direction: Literal["min", "max"]
    budget: str | None
    budget_unit: str
    shared: tuple[str, ...]
    combinations: int
    complete: bool
    seconds: float
    limits_differ: bool
    designs: tuple[ExactDesign, ...]
    ended: bool = False
    hypervolume_ratio: float | None = None

    def behind(self, design: ExactDesign) -> float | None:
        """How much worse the search is within the budget of a design; 0 where it is not."""
        if design.found is None:
            return None
        loss = design.values[self.objective] - design.found
        behind = max(loss if self.direction == "max" else -loss, 0.0)
        return 0.0 if behind <= _SAME * (self.extent or abs(design.found)) else behind

    @property
    def extent(self) -> float:
        """Range of the first objective over the designs."""
        values = [design.values[self.objective] for design in self.designs]
        return max(values) - min(values)

    def sentences(self) -> tuple[str, ...]:
        """What was found, how far the search ended from it, and what is not sure of it."""
        found = [self._found(), *([self._ended()] if self.ended else [])]
        loose = max(design.gap for design in self.designs)
        if loose > 1e-4:
            found.append(
                f"A solve ran into its time limit: up to {100 * loose:.2g} % of the range may be "
                "missing to the true optimum."
            )
        if self.limits_differ:
            found.append(
                "Limits of the exact designs hold against values, those of the search against the "
                "pessimistic end of an interval."
            )
        return tuple(found)

    def _found(self) -> str:
        given = sum(design.given for design in self.designs)
        if self.budget is None:
            best = self.designs[0].values[self.objective]
            return (
                f"The exact optimum of {self.objective} is {best:.5g} {self.unit}; the first "
                f"population had it ({self.seconds:.1f} s)."
            )
        front = f"the exact front of {self.objective} and {self.budget}"
        whole = "all of" if self.complete else "of"
        return (
            f"{len(self.designs)} designs, {whole} {front}, were found in {self.seconds:.1f} s; "
            f"the first population had {given} of them."
        )

    def _ended(self) -> str:
        if self.budget is None:
            design = self.designs[0]
            behind = self.behind(design)
            if not behind:
                return "The search ended at the exact optimum."
            return f"The search ended {behind:.3g} {self.unit} behind the exact optimum."
        known = [(self.behind(d) or 0.0, d) for d in self.designs if d.found is not None]
        missing = len(self.designs) - len(known)
        nothing = f"; it has nothing at {missing} of them" if missing else ""
        ratio = f"{100 * (self.hypervolume_ratio or 0.0):.2f} % of the exact hypervolume"
        if not known:
            return f"The search ended with {ratio}{nothing}."
        behind, worst = max(known, key=lambda pair: pair[0])
        equal = sum(loss == 0 for loss, _ in known)
        at = f"{worst.values[self.budget]:.4g} {self.budget_unit}"
        share = f" ({100 * behind / self.extent:.2g} % of the range)" if self.extent else ""
        most = f", and at most {behind:.3g} {self.unit}{share} behind, at {at}" if behind else ""
        return (
            f"The search ended with {ratio}: as good at {equal} of {len(self.designs)} budgets"
            f"{most}{nothing}."
        )

    def to_json(self) -> str:
        """The whole as JSON, with what each design is behind."""
        designs = [asdict(d) | {"behind": self.behind(d)} for d in self.designs]
        content = asdict(self) | {"designs": designs, "sentences": list(self.sentences())}
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read `to_json` back.

        Raises:
            RunError: it is something else.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            del fields["sentences"]
            designs = tuple(
                ExactDesign(**{name: v for name, v in row.items() if name != "behind"})
                for row in fields["designs"]
            )
            return cls(**{**fields, "designs": designs, "shared": tuple(fields["shared"])})
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{_FILE} is damaged ({error!r}): the run cannot begin as it did; start a new one"
            ) from error


def read_exact(folder: RunFolder) -> ExactStart | None:
    """The exact designs of a run; None where it did not begin with any.

    Raises:
        RunError: the file is damaged.
    """
    if not (folder.path / _FILE).exists():
        return None
    return ExactStart.from_json(folder.read_text(_FILE))


def write_exact(folder: RunFolder, start: ExactStart) -> None:
    """Replace `exact.json`.

    Raises:
        RunError: it cannot be written.
    """
    folder.write_text(_FILE, start.to_json())
