"""The best subnet for each budget."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from hwnas.cost import CostContext, build
from hwnas.errors import DataError
from hwnas.space import load_space
from hwnas.supernet.training.sampling import draw_archs
from hwnas.workflows.study.budgets import BudgetRow, study_budgets
from hwnas.workflows.study.compare import compare_budgets


def _lines(path: Path, split: str, n: int = 40) -> list[dict[str, object]]:
    """Subnets at 128 px whose IoU is made up: the costlier the better, plus noise."""
    space = load_space("sam-vit-t").freeze({"resolution": 128})
    rng = np.random.default_rng(0)
    archs = draw_archs(space, rng, n)
    bitops = build("bitops", CostContext(space)).evaluate(archs)
    found = [
        {"arch_id": a.id, "genes": dict(a.genes), "iou": float(iou), "bitops": float(cost),
         "prompt": "box", "split": split}
        for a, cost, iou in zip(archs, bitops, rng.uniform(0.2, 0.6, n), strict=True)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in found))
    return found


def test_the_best_that_fits_is_chosen_and_scored_elsewhere(tmp_path: Path) -> None:
    lines = _lines(tmp_path / "val.jsonl", "val")
    rows = study_budgets(
        tmp_path / "val.jsonl", supernet="sam-vit-t", out=tmp_path / "out", prompts=["box"],
        budgets=(0.5, 0.02), split="test",
    )  # fmt: skip
    costs = sorted(float(line["bitops"]) for line in lines)  # type: ignore[arg-type]
    assert len(rows) == 2
    for row in rows:
        fitting = [x for x in lines if float(x["bitops"]) <= row.bitops + 1e-6]  # type: ignore[arg-type]
        limit = row.bitops / (1 - row.saved_w8a8) * row.budget
        assert row.bitops <= limit
        inside = [x for x in lines if float(x["bitops"]) <= limit]  # type: ignore[arg-type]
        assert row.val_iou == max(float(x["iou"]) for x in inside)  # type: ignore[arg-type]
        assert fitting
        assert row.saved_fp32 > row.saved_fp16 > row.saved_w8a8
    assert rows[0].bitops <= costs[-1]
    assert (tmp_path / "out" / "budgets.md").read_text().count("\n") == 4


def test_figures_of_the_scored_split_are_refused(tmp_path: Path) -> None:
    _lines(tmp_path / "test.jsonl", "test", 3)
    with pytest.raises(DataError, match="give figures of another split"):
        study_budgets(tmp_path / "test.jsonl", supernet="sam-vit-t", out=tmp_path / "out")


def test_a_budget_that_nothing_fits_is_named(tmp_path: Path) -> None:
    _lines(tmp_path / "val.jsonl", "val", 3)
    with pytest.raises(DataError, match="no subnet fits 1e-06"):
        study_budgets(
            tmp_path / "val.jsonl", supernet="sam-vit-t", out=tmp_path / "o", budgets=(1e-6,)
        )


def test_seeds_of_a_way_are_averaged_and_drawn(tmp_path: Path) -> None:
    def folder(name: str, ious: list[float]) -> Path:
        rows = [
            asdict(
                BudgetRow(b, "x", 100 * b, 200 * b, "box", 0.5, iou, 0.01, iou / 2, 0.9, 0.8, 0.1)
            )
            for b, iou in zip((1.0, 0.5), ious, strict=True)
        ]
        (tmp_path / name).mkdir()
        (tmp_path / name / "budgets.json").write_text(json.dumps(rows))
        return tmp_path / name

    runs = {
        "two": [folder("a", [0.6, 0.4]), folder("b", [0.8, 0.4])],
        "one": [folder("c", [0.7, 0.5])],
    }
    rows = compare_budgets(runs, out=tmp_path / "out")
    assert [(r.name, r.budget, r.runs) for r in rows] == [
        ("two", 1.0, 2), ("two", 0.5, 2), ("one", 1.0, 1), ("one", 0.5, 1)
    ]  # fmt: skip
    assert rows[0].iou == pytest.approx(0.7)
    assert rows[0].iou_deviation == pytest.approx(0.02**0.5)
    assert rows[2].iou_deviation is None
    text = (tmp_path / "out" / "compare.md").read_text()
    assert "| two | 2 | 70.0 ± 14.1 / 35.0 (100) | 40.0 ± 0.0 / 20.0 (50) |" in text
    assert (tmp_path / "out" / "compare.png").read_bytes().startswith(b"\x89PNG")

    other = folder("d", [0.7, 0.5])
    short = json.loads((other / "budgets.json").read_text())[:1]
    (other / "budgets.json").write_text(json.dumps(short))
    with pytest.raises(DataError, match="different budgets"):
        compare_budgets({"two": [tmp_path / "a", other]}, out=tmp_path / "out")
    with pytest.raises(DataError, match="study budgets --out"):
        compare_budgets({"no": [tmp_path]}, out=tmp_path / "out")
