"""A study of signal propagation as tables, CSV, JSON, Markdown and pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas.report.propagation_png import write_error_png, write_losses_png, write_ratio_png
from hwnas.supernet.propagation import PROJECTIONS
from hwnas.workflows.study_log import StudyLog
from hwnas.workflows.study_propagation.training import FreezeRow

if TYPE_CHECKING:
    from hwnas.workflows.study_propagation.study import PropagationStudy

__all__ = [
    "projection_rows",
    "trained_rows",
    "training_rows",
    "training_sentences",
    "write_propagation",
]

Row = dict[str, object]
_COLUMNS = {
    "norm": "weight.norm", "ratio": "weight.ratio", "cosine": "weight.cosine",
    "error": "weight.error", "pooled": "weight.pooled", "output ratio": "output.ratio",
    "output cosine": "output.cosine", "weight dB": "weight_sqnr", "input dB": "input_sqnr",
    "output dB": "output_sqnr",
}  # fmt: skip
_TRAINED = {
    "weight norm": "weight.norm", "output norm": "output.norm", "output ratio": "output.ratio",
    "output cosine": "output.cosine", "output error": "output.error",
    "activation ratio": "activation_ratio", "output dB": "output_sqnr",
}  # fmt: skip
_SPREAD = ("ratio", "cosine", "error", "pooled")


def projection_rows(study: PropagationStudy, loss: str | None = None) -> list[Row]:
    """A row for each pair of bits and projection, of one loss; the last one by default.

    Figures of gradients of weights, then of outputs, then of signal to noise: means over blocks
    and batches, with the deviation over batches where it says ±.
    """
    loss = loss or study.losses[-1]
    rows = []
    for bits, found in study.rows.items():
        for one in found[loss]:
            rank = None if bits == "float" else one.rank
            row: Row = {"bits": bits, "rank": rank, "projection": one.projection}
            for name, figure in _COLUMNS.items():
                row[name] = one.figures[figure]
                if name in _SPREAD:
                    row[name] = _with_spread(one.figures[figure], one.deviations[figure])
            rows.append(row)
    return rows


def training_rows(rows: Sequence[FreezeRow]) -> list[Row]:
    """IoU in percent before and after, mean and deviation over seeds, and the gain in points."""
    prompts = [name.partition(".")[2] for name in rows[0].iou if name.startswith("after.")]
    found = []
    for row in rows:
        told: Row = {"bits": row.bits, "frozen": row.freeze, "seeds": row.seeds}
        for prompt in prompts:
            for when in ("before", "quantized", "after"):
                told[f"{prompt} {when}"] = _percent(row.iou.get(f"{when}.{prompt}"))
            told[f"{prompt} against none"] = _percent((row.gain or {}).get(prompt))
        told["last loss"] = row.curve[-1][1] if row.curve else None
        told["seconds"] = row.seconds
        found.append(told)
    return found


def trained_rows(study: PropagationStudy) -> list[Row]:
    """Signals of fine-tuned models beside the base's in floating point: means over the samples."""
    return [
        {"bits": found.bits, "frozen": found.freeze, "projection": row.projection,
         **{name: row.figures[figure] for name, figure in _TRAINED.items()}}
        for found in study.trained
        for row in sorted(found.rows, key=lambda one: PROJECTIONS.index(one.projection))
    ]  # fmt: skip


def training_sentences(rows: Sequence[FreezeRow]) -> list[str]:
    """What each policy gained or lost against freezing nothing."""
    found = []
    for row in rows:
        for prompt, (mean, deviation) in (row.gain or {}).items():
            spread = "one seed, no spread" if deviation is None else f"sd {100 * deviation:.2f}"
            found.append(
                f"{row.bits}, frozen {row.freeze} against none, prompt {prompt}: "
                f"{100 * mean:+.2f} points of IoU ({spread}, {row.seeds} seeds)"
            )
    return found


def write_propagation(study: PropagationStudy, log: StudyLog) -> None:
    """Write the tables and pictures of a study into its folder.

    Raises:
        RunError: they cannot be written.
    """
    text = json.dumps(study.to_json() | {"sentences": study.sentences()}, indent=1, allow_nan=False)
    log.write("propagation.json", text + "\n")
    log.write("propagation.csv", _csv(study))
    log.write("propagation.md", _markdown(study))
    shown = {bits: cells for bits, cells in study.cells.items() if bits != "float"}
    loss = study.losses[-1]
    for figure, draw, name in (
        ("error", write_error_png, "gradient_error.png"),
        ("ratio", write_ratio_png, "gradient_ratio.png"),
    ):
        if shown:
            maps = {bits: _matrix(c, f"{loss}.weight.{figure}") for bits, c in shown.items()}
            draw(maps, _blocks(study), PROJECTIONS, log.path / name,
                 title=f"{study.base} at {study.resolution} px, loss {loss}")  # fmt: skip
    curves = {f"{row.bits}, frozen {row.freeze}": row.curve for row in study.trainings if row.curve}
    if curves:
        write_losses_png(curves, log.path / "training.png", title=f"{study.base}: fine-tunings")


def _blocks(study: PropagationStudy) -> list[int]:
    cells = next(iter(study.cells.values()))
    return sorted({cell["block"] for cell in cells})


def _matrix(cells: Sequence[Mapping[str, Any]], figure: str) -> Any:
    blocks = sorted({cell["block"] for cell in cells})
    values = np.full((len(blocks), len(PROJECTIONS)), np.nan)
    for cell in cells:
        at = blocks.index(cell["block"]), PROJECTIONS.index(cell["projection"])
        values[at] = np.nan if cell[figure] is None else cell[figure]
    return values


def _csv(study: PropagationStudy) -> str:
    """One row for each pair of bits, block and projection, with every figure and deviation."""
    text = io.StringIO()
    rows = [{"bits": bits, **cell} for bits, cells in study.cells.items() for cell in cells]
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _markdown(study: PropagationStudy) -> str:
    parts = [f"# Signal propagation of {study.base} at {study.resolution} px",
             "\n".join(f"- {sentence}" for sentence in study.sentences())]  # fmt: skip
    for loss in study.losses:
        parts += [f"## Gradients of {loss}", _table(projection_rows(study, loss))]
    if study.trainings:
        parts += ["## Fine-tunings", _table(training_rows(study.trainings))]
    if study.trained:
        parts += [f"## Signals after training, {study.losses[-1]}", _table(trained_rows(study))]
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[Row]) -> str:
    cells = [[_cell(value) for value in row.values()] for row in rows]
    lines = [list(rows[0]), ["---"] * len(rows[0]), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _with_spread(mean: float | None, deviation: float | None) -> str | None:
    if mean is None:
        return None
    return f"{mean:.3g}" + ("" if deviation is None else f" ± {deviation:.2g}")


def _percent(value: tuple[float, float | None] | None) -> str | None:
    if value is None:
        return None
    mean, deviation = value
    return f"{100 * mean:.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")
