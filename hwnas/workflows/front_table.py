"""A front as rows for the terminal and as one document for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hwnas.report import design_summary
from hwnas.search import Column

if TYPE_CHECKING:
    from hwnas.records import Verification
    from hwnas.workflows.search import Outcome

__all__ = ["front_document", "front_table", "verified_table"]


def front_table(outcome: Outcome) -> list[dict[str, object]]:
    """One row a design: arch id, a short description, every cost with its unit and its kind."""
    front, rescored = outcome.result.front, outcome.rescored
    rows = []
    for design in front:
        row: dict[str, object] = {"arch": design.id, "design": design_summary(design.arch.genes)}
        row |= {_heading(c): design.values[c.name] for c in front.columns}
        if rescored is not None:
            value, error = rescored.values[design.id]
            row[f"{rescored.name} (re-scored)"] = (
                f"{value:.3f}" if error is None else f"{value:.3f} ± {error:.3f}"
            )
        rows.append(row)
    return rows


def front_document(outcome: Outcome) -> dict[str, Any]:
    """The front with everything a program needs to go on; plain JSON."""
    result, rescored = outcome.result, outcome.rescored
    document: dict[str, Any] = result.front.designs.to_dict()
    if rescored is not None:
        for design in document["designs"]:
            value, error = rescored.values[design["arch_id"]]
            design["rescored"] = {"name": rescored.name, "value": value, "standard_error": error}
    return document | {
        "device": outcome.resolved.device.key if outcome.resolved.device else None,
        "evaluations": result.evaluations,
        "failed": result.failed,
        "real_evaluations": result.real_evaluations,
        "predictors": {name: verdict.to_dict() for name, verdict in outcome.judged.items()},
        "hypervolume": result.hypervolume,
        "reference_point": dict(result.reference_point),
        "verified": None if outcome.verified is None else json.loads(outcome.verified.to_json()),
        "exact": None if outcome.exact is None else json.loads(outcome.exact.to_json()),
        "run": str(outcome.folder) if outcome.folder else None,
    }


def verified_table(found: Verification) -> list[dict[str, object]]:
    """One row a measured design: predicted, interval, measured, difference, verdict."""
    rows: list[dict[str, object]] = []
    for design in found.designs:
        known = design.lo is not None and design.hi is not None
        rows.append(
            {
                "arch": design.arch_id,
                f"{found.cost} {found.unit} ({found.fidelity})": design.predicted,
                "interval": f"{design.lo:.4g} to {design.hi:.4g}" if known else None,
                f"measured {found.unit}": design.measured,
                "difference %": design.difference_pct,
                "inside": {True: "yes", False: "no", None: None}[design.inside],
                "limits": "; ".join(f"breaks {limit}" for limit in design.broken)
                or ("failed" if design.measured is None else "kept"),
            }
        )
    return rows


def _heading(column: Column) -> str:
    """`latency ms (estimated)`; an exact count needs no remark."""
    kind = "" if column.fidelity in {"", "analytic"} else f" ({column.fidelity})"
    unit = "" if column.unit.lower() == column.name.lower() else f" {column.unit}"
    return f"{column.name}{unit}{kind}"
