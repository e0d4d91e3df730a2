"""Several ways to make a supernet, at the same budgets: the table and the plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwnas.errors import DataError
from hwnas.records.files import replace_text
from hwnas.workflows.study.budgets import BUDGETS_FILE, BudgetRow

__all__ = ["ComparedRow", "compare_budgets"]


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """One way at one budget: means over its runs, and their standard deviation (None for one).

    BitOPs are in GBitOPs, IoU are shares; `runs` counts folders that have a subnet for the budget.
    """

    name: str
    prompt: str
    budget: float
    runs: int
    bitops: float
    system_bitops: float
    iou: float
    iou_deviation: float | None
    boundary_iou: float | None
    saved_fp32: float
    saved_fp16: float
    saved_w8a8: float


def compare_budgets(
    runs: Mapping[str, Sequence[str | Path]],
    *,
    out: str | Path,
    title: str = "Subnets chosen on val, scored on test",
) -> list[ComparedRow]:
    """Put folders of `study_budgets` side by side; several of one name are seeds of it.

    Writes `compare.md`, `compare.json` and `compare.png` into `out`.

    Raises:
        DataError: a folder holds no budgets, or runs of one name were scored at other budgets.
    """
    from hwnas.report.study_png import write_budgets_png

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row for name, folders in runs.items() for row in _rows_of(name, folders)]
    replace_text(folder / "compare.md", _markdown(rows))
    listed = [{k: getattr(row, k) for k in row.__slots__} for row in rows]
    replace_text(folder / "compare.json", json.dumps(listed, indent=1) + "\n")
    panels: dict[str, dict[str, list[tuple[float, float, float | None]]]] = {}
    for row in rows:
        point = (row.bitops, 100 * row.iou, _points(row.iou_deviation))
        panels.setdefault(row.prompt, {}).setdefault(row.name, []).append(point)
    write_budgets_png(panels, folder / "compare.png", title=title)
    return rows


def _rows_of(name: str, folders: Sequence[str | Path]) -> list[ComparedRow]:
    read = [_read(Path(folder)) for folder in folders]
    keys = [[(row.budget, row.prompt) for row in rows] for rows in read]
    if any(k != keys[0] for k in keys):
        raise DataError(
            f"{name}: {', '.join(map(str, folders))} were scored at different budgets or prompts; "
            "compare runs of `hwnas study budgets` with the same options"
        )
    return [_mean(name, [rows[i] for rows in read]) for i in range(len(read[0]))]


def _read(folder: Path) -> list[BudgetRow]:
    path = folder / BUDGETS_FILE
    try:
        rows = [BudgetRow(**fields) for fields in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{path}: {error}; expected the folder that `hwnas study budgets --out` wrote"
        ) from error
    if not rows:
        raise DataError(f"{path} is empty; run `hwnas study budgets` again")
    return rows


def _mean(name: str, rows: Sequence[BudgetRow]) -> ComparedRow:
    iou = np.array([row.iou for row in rows])
    bands = [row.boundary_iou for row in rows if row.boundary_iou is not None]
    costs = np.array(
        [(r.bitops, r.system_bitops, r.saved_fp32, r.saved_fp16, r.saved_w8a8) for r in rows]
    ).mean(axis=0)
    return ComparedRow(
        name,
        rows[0].prompt,
        rows[0].budget,
        len(rows),
        float(costs[0]),
        float(costs[1]),
        float(iou.mean()),
        float(iou.std(ddof=1)) if len(rows) > 1 else None,
        float(np.mean(bands)) if len(bands) == len(rows) else None,
        float(costs[2]),
        float(costs[3]),
        float(costs[4]),
    )


def _points(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _markdown(rows: Sequence[ComparedRow]) -> str:
    """One line a way, one column a budget: IoU ± deviation / boundary IoU, encoder GBitOPs."""
    prompts = list(dict.fromkeys(row.prompt for row in rows))
    return "\n".join(_table(prompt, [r for r in rows if r.prompt == prompt]) for prompt in prompts)


def _table(prompt: str, rows: Sequence[ComparedRow]) -> str:
    budgets = sorted({row.budget for row in rows}, reverse=True)
    head = "".join(f" {budget:g} |" for budget in budgets)
    text = f"| {prompt}, budget | runs |{head}\n|---|---|{'---|' * len(budgets)}\n"
    for name in dict.fromkeys(row.name for row in rows):
        own = {row.budget: row for row in rows if row.name == name}
        cells = "".join(f" {_cell(own.get(budget))} |" for budget in budgets)
        text += f"| {name} | {next(iter(own.values())).runs} |{cells}\n"
    return text


def _cell(row: ComparedRow | None) -> str:
    if row is None:
        return "-"
    spread = "" if row.iou_deviation is None else f" ± {100 * row.iou_deviation:.1f}"
    band = "" if row.boundary_iou is None else f" / {100 * row.boundary_iou:.1f}"
    return f"{100 * row.iou:.1f}{spread}{band} ({row.bitops:.3g})"
