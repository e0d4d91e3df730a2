"""A study as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hwnas.workflows.study.layers import LayerNoise
from hwnas.workflows.study.verdict import Point

if TYPE_CHECKING:
    from hwnas.workflows.study.space import SpaceStudy

__all__ = ["markdown", "matrix_csv", "to_json"]


def to_json(study: SpaceStudy) -> dict[str, Any]:
    """Plain data: everything that the study found."""
    return {
        "space": study.space,
        "settings": study.settings,
        "notes": list(study.notes),
        "largest": study.largest,
        "points": [asdict(point) for point in study.points],
        "layers": [asdict(row) for row in study.layers],
        "hypotheses": [asdict(found) for found in study.hypotheses],
        "kept": {gene: list(options) for gene, options in (study.kept or {}).items()},
        "proposed": study.proposed,
    }


def matrix_csv(layers: Sequence[LayerNoise]) -> str:
    """Added noise by block (rows) and operand at a bit-width (columns), with the IoU costs after.

    Cells that were not measured are empty.
    """
    columns = list(dict.fromkeys(f"{row.operand}={row.bits}" for row in layers))
    blocks = sorted({(row.block, row.attends) for row in layers})
    cells = {(row.block, f"{row.operand}={row.bits}"): row for row in layers}
    losses = [c for c in columns if any(_loss(cells.get((b, c))) != "" for b, _ in blocks)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [f"nsr {c}" for c in columns] + [f"points {c}" for c in losses]
    writer.writerow(["block", "attention", *names])
    for block, attends in blocks:
        noise = [_nsr(cells.get((block, c))) for c in columns]
        writer.writerow([block, attends, *noise, *(_loss(cells.get((block, c))) for c in losses)])
    return out.getvalue()


def _nsr(row: LayerNoise | None) -> str:
    return "" if row is None else f"{row.nsr:.6g}"


def _loss(row: LayerNoise | None) -> str:
    return "" if row is None or row.loss is None else f"{row.loss:.4g}"


def markdown(study: SpaceStudy) -> str:
    """The tables for people."""
    parts = [
        f"# Effective search space of {study.space}",
        "\n".join(f"- {note}" for note in study.notes),
        "## Values",
        _points(study.points, study.largest),
    ]
    if study.layers:
        parts += ["## Most sensitive layers", _layers(study.layers)]
    if study.hypotheses:
        parts += ["## Hypotheses", _hypotheses(study)]
    if study.proposed:
        parts += ["## Proposed space", f"```yaml\n{study.proposed}```"]
    return "\n\n".join(parts) + "\n"


def _points(points: Sequence[Point], largest: Mapping[str, Any]) -> str:
    head = (
        "axis", "value", "GBitOPs", "of largest", "system GBitOPs", "IoU", "points lost",
        "per halving", "last step per halving", "in float", "in random contexts",
        "keep", "why",
    )  # fmt: skip
    top = (
        "(largest)", "", f"{largest['gbitops']:.4g}", "100 %", f"{largest['system_gbitops']:.4g}",
        _pm(largest["iou"], largest["error"], 3), "", "", "", "", "", "", "",
    )  # fmt: skip
    shown = _filled([head, top, *(_row(point, largest) for point in points)])
    return "\n".join(_line(cells) for cells in (shown[0], ["---"] * len(shown[0]), *shown[1:]))


def _row(p: Point, largest: Mapping[str, Any]) -> tuple[str, ...]:
    share = p.gbitops / largest["gbitops"]
    forced = f" (forces {', '.join(p.forced)})" if p.forced else ""
    keep = "" if p.kept is None else ("yes" if p.kept else "no")
    return (
        p.label, f"{p.value}{forced}", f"{p.gbitops:.4g}", f"{100 * share:.1f} %",
        f"{p.system_gbitops:.4g}", _pm(p.iou, p.error, 3), _pm(p.loss, p.loss_error, 2),
        _pm(p.eta, p.eta_error, 2), _pm(p.step_eta, None, 2), _pm(p.float_loss, None, 2),
        _pm(p.context_loss, p.context_error, 2), keep, p.why,
    )  # fmt: skip


def _filled(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Rows without the columns that nothing below the head fills."""
    used = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
    return [[row[i] for i in used] for row in rows]


def _layers(layers: Sequence[LayerNoise], most: int = 20) -> str:
    head = ("gene", "attention", "bits", "added noise (NSR)", "points lost")
    ranked = sorted(layers, key=lambda row: -row.nsr)[:most]
    rows = [
        (r.gene, r.attends, str(r.bits), _pm(r.nsr, r.error, 4), _pm(r.loss, r.loss_error, 2))
        for r in ranked
    ]
    return "\n".join(_line(cells) for cells in (head, ["---"] * len(head), *rows))


def _hypotheses(study: SpaceStudy) -> str:
    return "\n".join(f"- {h.sentence}: **{h.verdict}**. {h.answer}." for h in study.hypotheses)


def _pm(value: float | None, error: float | None, digits: int) -> str:
    if value is None:
        return ""
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
