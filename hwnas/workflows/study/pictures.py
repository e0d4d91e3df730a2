"""The pictures of a study, from its figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwnas.report.study_png import write_axes_png, write_matrix_png

if TYPE_CHECKING:
    from hwnas.workflows.study.space import SpaceStudy

__all__ = ["write_pictures"]


def write_pictures(study: SpaceStudy, folder: Path) -> list[Path]:
    """Write `axes.png` and `sensitivity.png`, where there are figures for them."""
    written = []
    if any(point.iou is not None for point in study.points):
        written.append(folder / "axes.png")
        write_axes_png(
            _curves(study),
            written[-1],
            title=f"{study.space}: one axis at a time",
            floor=study.largest["blind_iou"],
        )
    if study.layers:
        written.append(folder / "sensitivity.png")
        _matrix(study, written[-1])
    return written


def _curves(study: SpaceStudy) -> dict[str, list[tuple[str, float, float, float | None]]]:
    top = study.largest
    curves: dict[str, list[tuple[str, float, float, float | None]]] = {}
    for point in study.points:
        if point.iou is None:
            continue
        curve = curves.setdefault(point.axis, [("", 1.0, top["iou"], None)])
        share = point.gbitops / top["gbitops"]
        error = None if point.loss_error is None else point.loss_error / 100
        curve.append((str(point.value), share, point.iou, error))
    return curves


def _matrix(study: SpaceStudy, path: Path) -> None:
    columns = list(dict.fromkeys((row.operand, row.bits) for row in study.layers))
    columns.sort(key=lambda c: (c[0].rpartition(".")[2], c[0], -c[1]))
    blocks = sorted({(row.block, row.attends) for row in study.layers})
    found = {(row.block, row.operand, row.bits): row.nsr for row in study.layers}
    values = np.array(
        [[found.get((block, *column), np.nan) for column in columns] for block, _ in blocks]
    )
    write_matrix_png(
        values,
        [f"{block} {attends}" for block, attends in blocks],
        [f"{operand} {bits}" for operand, bits in columns],
        path,
        title=f"{study.space}: noise of the embedding when one layer has fewer bits",
        unit="added noise-to-signal ratio",
    )
