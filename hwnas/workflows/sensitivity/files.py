"""Sensitivities as rows, CSV, JSON and Markdown."""

from __future__ import annotations

import csv
import io
import itertools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.cost import CostModel
from hwnas.cost.matrices import ErrorMatrix, Rescalable
from hwnas.records.files import explained, replace_text
from hwnas.workflows.sensitivity.study import SensitivityStudy

__all__ = ["checked_rows", "most_sensitive", "to_json", "write_sensitivities"]

_MOST = 10


def most_sensitive(study: SensitivityStudy, most: int = _MOST) -> list[dict[str, object]]:
    """The groups with the largest errors: at their lowest options, all else at the largest."""
    found = [
        (errors[0], name, _at(matrix))
        for matrix in study.matrices
        for name, errors in matrix.rows.items()
    ]
    first = sorted(found, key=lambda one: -one[0])[:most]
    return [{"group": name, "options": at, "error": error} for error, name, at in first]


def _at(matrix: ErrorMatrix) -> str:
    return f"{matrix.title.partition(' (')[0]} = {matrix.columns[0]}"


def checked_rows(study: SensitivityStudy) -> list[dict[str, object]]:
    """The groups that were measured: error and loss."""
    if study.check is None:
        return []
    loss = f"loss of {study.check.against} {study.check.unit}"
    return [{"group": g.group, "error": g.predicted, loss: g.measured} for g in study.check.groups]


def to_json(study: SensitivityStudy) -> dict[str, Any]:
    """Plain data."""
    return asdict(study) | {"sentences": study.sentences()}


def write_sensitivities(study: SensitivityStudy, model: CostModel, folder: Path) -> None:
    """Write the files of a study; `tables.json` only of a model that can be saved.

    Raises:
        RunError: they cannot be written.
    """
    with explained("create", folder):
        folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model, Rescalable):
        with explained("write", folder / "tables.json"):
            model.save(folder / "tables.json")
    replace_text(folder / "matrices.csv", _csv(study))
    text = json.dumps(to_json(study), indent=1, allow_nan=False)
    replace_text(folder / "sensitivity.json", text + "\n")
    replace_text(folder / "sensitivity.md", _markdown(study))


def _csv(study: SensitivityStudy) -> str:
    """One row for each group and combination of options."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["group", "options", f"error {study.unit}"])
    for group in study.groups:
        errors = np.array(group["errors"], dtype=np.float64).ravel().tolist()
        for chosen, error in zip(itertools.product(*group["options"]), errors, strict=True):
            told = " ".join(f"{g}={o}" for g, o in zip(group["genes"], chosen, strict=True))
            writer.writerow([group["name"], told, f"{error:.6g}"])
    return text.getvalue()


def _markdown(study: SensitivityStudy) -> str:
    parts = [f"# Sensitivities of {study.space}", f"{study.cost} in {study.unit}: {study.note}."]
    if study.sentences():
        parts.append("\n".join(f"- {sentence}" for sentence in study.sentences()))
    if study.check is not None:
        parts += ["## Groups that were measured", _table(checked_rows(study))]
    for matrix in study.matrices:
        rows: list[dict[str, object]] = [
            {"group": name, **dict(zip(matrix.columns, errors, strict=True))}
            for name, errors in matrix.rows.items()
        ]
        parts += [f"## {matrix.title}", _table(rows)]
    return "\n\n".join(parts) + "\n"


def _table(rows: list[dict[str, object]]) -> str:
    cells = [[_cell(value) for value in row.values()] for row in rows]
    lines = [list(rows[0]), ["---"] * len(rows[0]), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
