"""A study of exact optima as tables, words, JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas.records.files import explained, replace_text

if TYPE_CHECKING:
    from hwnas.workflows.exact.study import ExactStudy

__all__ = ["rows_of", "sentences", "to_json", "write_exact_study"]

_AIM = 1.0  # per cent of the optimum


def rows_of(study: ExactStudy) -> list[dict[str, object]]:
    """One row a budget: the optimum, and for each start the means over seeds."""
    name, unit = study.objective
    rows = []
    for row in study.rows:
        cells: dict[str, object] = {
            f"{study.budget[0]} {study.budget[1]}": row.budget,
            f"exact {name} {unit}": row.optimum,
        }
        for start, found in row.found.items():
            cells |= {
                start: _mean(found.values),
                f"{start}: behind %": _mean(found.percent),
                f"{start}: % of range": _mean(found.of_range),
            }
        rows.append(cells)
    return rows


def sentences(study: ExactStudy) -> list[str]:
    """What a reader must not miss."""
    seeds = len(study.settings["seeds"])
    found = []
    for start, volumes in study.hypervolume.items():
        worst = study.worst(start)
        behind = "has budgets at which a share of the optimum is not known"
        if worst is not None:
            behind = f"is at most {worst:,.{0 if worst >= 100 else 2}f} % behind the optimum"
        ratio = f"{100 * min(volumes):.2f} to {100 * max(volumes):.2f} %"
        found.append(
            f"{start}: NSGA-II {behind} ({len(study.rows)} budgets, {seeds} "
            f"{'seed' if seeds == 1 else 'seeds'}), with {ratio} of the exact hypervolume; "
            f"a search took {study.seconds[start]:.1f} s"
        )
    worst = study.worst("seeded")
    if worst is not None:
        kept = "kept" if worst <= _AIM else "missed"
        found.append(f"the aim of {_AIM:g} % for seeded searches is {kept}")
    loose = max(row.gap for row in study.rows)
    given = study.settings["given"]
    found.append(
        f"seeded searches were given {given['seeded']} exact designs, these budgets' among them; "
        f"`between` are those that were given {given['between']} at other budgets alone"
    )
    found.append(
        f"{study.settings['evaluations']} evaluations a search; {study.seconds['exact']:.1f} s for "
        f"all exact designs, of which {100 * loose:.1g} % is left open at most"
    )
    return found


def to_json(study: ExactStudy) -> dict[str, Any]:
    """Plain data."""
    return asdict(study) | {"sentences": sentences(study)}


def write_exact_study(study: ExactStudy, folder: Path) -> None:
    """Write `exact.json` and `exact.md`.

    Raises:
        RunError: they cannot be written.
    """
    with explained("create", folder):
        folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(to_json(study), indent=1, allow_nan=False)
    replace_text(folder / "exact.json", text + "\n")
    replace_text(folder / "exact.md", _markdown(study))


def _markdown(study: ExactStudy) -> str:
    rows = rows_of(study)
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([_cell(v) for v in r.values()] for r in rows)]
    limits = f", {', '.join(study.settings['limits'])}" if study.settings["limits"] else ""
    return "\n".join(
        [
            f"# Exact optima of {study.space}{limits}",
            "",
            *("| " + " | ".join(cells) + " |" for cells in lines),
            "",
            *(f"- {sentence}" for sentence in sentences(study)),
            "",
        ]
    )


def _cell(value: object) -> str:
    return "n/a" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _worst(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None
