"""What exports of a trained NAS-LoRA lose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hwnas.errors import ConfigError
from hwnas.workflows.evaluate.model import evaluate_model
from hwnas.workflows.finetune import finetune
from hwnas.workflows.study_folds import study_folds
from tests.workflows.finetune.finetune_folders import SMALL


def run(data: Path, base: Path, out: Path, **changes: object) -> Path:
    own = {"adapter.kind": "nas_lora", "rates.weights": 0.1}
    finetune(data=data, out=out, overrides={**SMALL, "base": str(base), **own, **changes})
    return out


def test_a_cell_that_is_still_a_branch_loses_by_folding(
    data: Path, base: Path, tmp_path: Path
) -> None:
    folder = run(data, base, tmp_path / "run", **{"architecture.anneal": False})
    rows = study_folds(folder, data=data, calibration=2, out=tmp_path / "folds.json")
    found = {row.export: row for row in rows}
    assert list(found) == ["branch", "anneal", "token", "lsq"]
    scores = evaluate_model(folder, data=data, split="val")
    assert found["branch"].iou == {s.prompt: pytest.approx(s.iou) for s in scores}
    assert found["branch"].residual_max == 0 < found["lsq"].residual_mean
    # the closest weight on these very tokens
    assert found["lsq"].residual_mean < min(found[e].residual_mean for e in ("anneal", "token"))
    assert found["lsq"].iou != found["branch"].iou
    assert [row["export"] for row in json.loads((tmp_path / "folds.json").read_text())] == [*found]


def test_an_annealed_cell_loses_nothing(data: Path, base: Path, tmp_path: Path) -> None:
    rows = study_folds(run(data, base, tmp_path / "run"), data=data, calibration=1)
    assert {row.residual_max for row in rows} == {0.0}
    assert len({str(row.iou) for row in rows}) == 1


def test_other_adapters_have_no_cells(data: Path, base: Path, tmp_path: Path) -> None:
    folder = run(data, base, tmp_path / "run", **{"adapter.kind": "lora"})
    with pytest.raises(ConfigError, match="lora has no cells"):
        study_folds(folder, data=data)
