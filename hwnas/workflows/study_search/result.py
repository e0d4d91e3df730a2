"""What searches by proxies ended at, as figures, words, JSON and Markdown."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hwnas.cost import Direction
from hwnas.records.files import explained, replace_text

__all__ = ["CHANCE", "ProxySearch", "SearchedBy", "write_search"]

CHANCE = "chance"


@dataclass(frozen=True)
class SearchedBy:
    """One search: its best design within each budget, and what that is worth.

    None where the search has nothing within a budget. `mean` is over all budgets. `seconds` are
    those of the first time, where a study was taken up again.
    """

    name: str
    baseline: bool
    arch_ids: tuple[str | None, ...]
    values: tuple[float | None, ...]
    seconds: float

    @property
    def mean(self) -> float | None:
        """Mean over the budgets; None where one has no design."""
        known = [value for value in self.values if value is not None]
        return sum(known) / len(known) if len(known) == len(self.values) else None


@dataclass(frozen=True)
class ProxySearch:
    """Searches by several proxies; `budgets` in GBitOPs, values in `unit` of `against`."""

    space: str
    against: str
    unit: str
    direction: Direction
    budgets: tuple[float, ...]
    rows: tuple[SearchedBy, ...]

    def sentences(self) -> list[str]:
        """For each proxy, which baselines the search by it beats on average."""
        return [self._verdict(row) for row in self.rows if not row.baseline]

    def table(self) -> list[dict[str, object]]:
        """One row a search: what was measured within each budget, and the mean."""
        rows = []
        for row in self.rows:
            cells: dict[str, object] = {"searched by": row.name + " (baseline)" * row.baseline}
            cells |= {f"{b:.4g}": v for b, v in zip(self.budgets, row.values, strict=True)}
            cells |= {f"mean {self.unit}": row.mean, "s": row.seconds}
            rows.append(cells)
        return rows

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        rows = [asdict(row) | {"mean": row.mean} for row in self.rows]
        return asdict(self) | {"rows": rows, "sentences": self.sentences()}

    def _verdict(self, own: SearchedBy) -> str:
        if own.mean is None:
            return f"{own.name}: nothing within some budgets, so it has no mean"
        sign = 1.0 if self.direction == "max" else -1.0
        known = {r.name: sign * r.mean for r in self.rows if r.baseline and r.mean is not None}
        beaten = [name for name, mean in known.items() if sign * own.mean > mean]
        words = f"beats {', '.join(beaten)}" if beaten else "beats none of the baselines"
        figures = ", ".join(f"{name} {sign * mean:.4g}" for name, mean in known.items())
        return (
            f"a search by {own.name} ends at a mean {self.against} of {own.mean:.4g} and {words}: "
            f"{figures}"
        )


def write_search(found: ProxySearch, folder: Path) -> None:
    """Write `search.json` and `search.md`.

    Raises:
        RunError: they cannot be written.
    """
    with explained("create", folder):
        folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found.to_json(), indent=1, allow_nan=False)
    replace_text(folder / "search.json", text + "\n")
    rows = found.table()
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([_cell(v) for v in r.values()] for r in rows)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    words = "\n".join(f"- {sentence}" for sentence in found.sentences())
    head = f"# {found.space} searched by proxies\n\nColumns: {found.against} within GBitOPs.\n\n"
    replace_text(folder / "search.md", f"{head}{table}\n\n{words}\n")


def _cell(value: object) -> str:
    return "n/a" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
