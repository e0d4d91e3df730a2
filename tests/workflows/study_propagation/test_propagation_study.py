"""`hwnas study propagation`: what it writes, how it goes on, what it refuses, what it concludes."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from hwnas.cli.app import app
from hwnas.errors import CheckpointError, ConfigError, DataError, Interrupted, RunError
from hwnas.supernet.propagation import PROJECTIONS
from hwnas.workflows.study_propagation import PropagationOptions, study_propagation, training
from hwnas.workflows.study_propagation import measure as measuring
from hwnas.workflows.study_propagation.options import FLOAT, read_bits
from hwnas.workflows.study_propagation.ranking import judge, rank_projections
from tests.workflows.finetune.finetune_folders import SMALL

FIGURES = ("norm", "ratio", "cosine", "error")


def options(*bits: tuple[int, int], **changes: Any) -> PropagationOptions:
    overrides = {k: v for k, v in SMALL.items() if k != "steps"} | changes.pop("overrides", {})
    given = {"batches": 2, "calibration": 2, **changes}
    return PropagationOptions(bits=bits or (FLOAT, (4, 8), (2, 4)), overrides=overrides, **given)


def test_the_folder_holds_tables_and_pictures(base: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    study = study_propagation(base, data=data, out=out, options=options())
    assert (study.base, study.resolution, study.samples) == ("tiny.safetensors", 64, 2)
    assert study.losses == ("task", "kd_qat")
    assert list(study.rows) == ["float", "W4A8", "W2A4"]
    for row in study.rows["float"]["kd_qat"]:
        told = [row.figures[f"{kind}.{n}"] for kind in ("weight", "output") for n in FIGURES[1:]]
        assert told == [1.0, 1.0, 0.0] * 2
        assert row.deviations["weight.ratio"] == 0.0
    errors = {bits: [row.figures["weight.error"] for row in study.rows[bits]["kd_qat"]]
              for bits in ("W4A8", "W2A4")}  # fmt: skip
    assert errors["W4A8"] == sorted(errors["W4A8"], reverse=True)
    assert np.mean(errors["W2A4"]) > np.mean(errors["W4A8"]) > 0
    assert [(v.bits, v.loss) for v in study.verdicts] == [
        (bits, loss) for bits in ("W4A8", "W2A4") for loss in study.losses
    ]
    files = {path.name for path in out.iterdir()}
    assert {"propagation.json", "propagation.csv", "propagation.md", "gradient_error.png",
            "gradient_ratio.png"} <= files  # fmt: skip
    kept = json.loads((out / "propagation.json").read_text())
    assert kept["rows"]["W4A8"]["task"][0]["rank"] == 1
    with (out / "propagation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 4 * len(PROJECTIONS)
    one = [r for r in rows if (r["bits"], r["block"], r["projection"]) == ("W4A8", "1", "k")]
    lines = [json.loads(line) for line in (out / "measurements.jsonl").read_text().splitlines()]
    values = [
        cell["task.weight.norm"]
        for line in lines if line["bits"] == "W4A8"
        for cell in line["cells"] if (cell["block"], cell["projection"]) == (1, "k")
    ]  # fmt: skip
    assert len(values) == 2
    assert float(one[0]["task.weight.norm"]) == pytest.approx(np.mean(values))
    assert float(one[0]["task.weight.norm.sd"]) == pytest.approx(np.std(values, ddof=1))
    assert "Gradients of kd_qat" in (out / "propagation.md").read_text()
    with Image.open(out / "gradient_ratio.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 40


def test_it_goes_on_where_it_was_stopped(
    base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = study_propagation(base, data=data, out=tmp_path / "whole", options=options())
    compared, compare = 0, measuring.compare

    def stopped(*given: Any) -> Any:
        nonlocal compared
        compared += 1
        if compared == 4:
            raise KeyboardInterrupt
        return compare(*given)

    monkeypatch.setattr(measuring, "compare", stopped)
    out = tmp_path / "out"
    with pytest.raises(Interrupted, match="go on with --resume"):
        study_propagation(base, data=data, out=out, options=options())
    with (out / "measurements.jsonl").open("a") as file:
        file.write('{"key": "gradients/torn')  # as a kill leaves it
    again = study_propagation(base, data=data, out=out, options=options(), resume=True)
    assert compared == 4 + 3
    assert again.to_json() == whole.to_json()
    more = study_propagation(
        base, data=data, out=out, options=options((4, 8), (3, 8), seeds=2), resume=True
    )
    assert compared == 7 + 2 + 4  # two batches at 3 bits, and both pairs of the second seed
    assert more.samples == 4
    assert more.cells["W4A8"][0]["task.weight.norm"] != whole.cells["W4A8"][0]["task.weight.norm"]


def test_fine_tunings_are_compared_and_not_repeated(
    base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, given = tmp_path / "out", {"batches": 1, "train": 2, "seeds": 2}
    wanted = options((4, 8), freezes=("none", "ov"), **given)
    stopped: list[Path] = []
    finetune = training.finetune

    def counted(*args: Any, **kwargs: Any) -> Any:
        if len(stopped) == 2:
            stopped.append(kwargs["out"])
            raise KeyboardInterrupt
        stopped.append(kwargs["out"])
        return finetune(*args, **kwargs)

    monkeypatch.setattr(training, "finetune", counted)
    with pytest.raises(Interrupted):
        study_propagation(base, data=data, out=out, options=wanted)
    study = study_propagation(base, data=data, out=out, options=wanted, resume=True)
    assert [path.name for path in stopped] == [
        "W4A8-none-0", "W4A8-ov-0", "W4A8-none-1", "W4A8-none-1", "W4A8-ov-1"
    ]  # fmt: skip
    none, frozen = study.trainings
    assert (none.freeze, frozen.freeze, none.seeds, none.gain) == ("none", "ov", 2, None)
    facts = {path.name: json.loads((path / "finetuned.json").read_text()) for path in stopped}
    assert facts["W4A8-ov-0"]["recipe"]["freeze"]["rows"] == "ov"
    assert facts["W4A8-ov-0"]["recipe"]["quantizer"]["w_bits"] == 4
    assert {f["steps"] for f in facts.values()} == {2}
    boxes = {name: f["iou"]["after"]["box"] for name, f in facts.items()}
    gains = [boxes[f"W4A8-ov-{seed}"] - boxes[f"W4A8-none-{seed}"] for seed in (0, 1)]
    assert frozen.gain is not None
    assert frozen.gain["box"] == pytest.approx((np.mean(gains), np.std(gains, ddof=1)))
    assert none.iou["after.box"][0] == pytest.approx(
        (boxes["W4A8-none-0"] + boxes["W4A8-none-1"]) / 2
    )
    assert [point[0] for point in none.curve][-1] == 2
    assert none.curve[-1][1] > 0
    assert (out / "training.png").is_file()
    plain, kept = study.trained
    assert (plain.freeze, kept.freeze, plain.samples) == ("none", "ov", 2)
    for found, frozen_rows in ((plain, ""), (kept, "ov")):
        for row in found.rows:
            assert (row.figures["weight.norm"] == 0) == (row.projection in frozen_rows)
            assert row.figures["output.norm"] > 0
            assert row.figures["output_sqnr"] is not None
    assert any("frozen ov against none" in sentence for sentence in study.sentences())
    assert "## Fine-tunings" in (out / "propagation.md").read_text()


def sample(figures: Mapping[str, tuple[float, float]], shift: float = 0.0) -> dict[str, Any]:
    """Two blocks, the second with a tenth of the gradient; errors by projection and block."""
    rest = {f"task.output.{n}": 1.0 for n in FIGURES} | {"task.weight.cosine": 0.5}
    rest |= dict.fromkeys(("activation_ratio", "output_sqnr", "input_sqnr", "weight_sqnr"))
    return {
        "cells": [
            {
                "block": block, "projection": name, **rest,
                "task.weight.norm": size * (2.0 if name in "ov" else 1.0),
                "task.weight.ratio": 3.0 if name == "o" else 1.0,
                "task.weight.error": errors[block] + shift,
            }
            for block, size in ((0, 1.0), (1, 0.1))
            for name, errors in figures.items()
        ]
    }  # fmt: skip


def told(attention: tuple[float, float], frozen: tuple[float, float]) -> dict[str, Any]:
    return {"q": attention, "k": attention, "v": frozen, "o": frozen,
            "lin1": (0.1, 0.1), "lin2": (0.1, 0.1)}  # fmt: skip


def test_a_verdict_says_what_the_errors_say() -> None:
    high, low = (0.4, 0.4), (0.2, 0.2)
    yes = judge([sample(told(low, high), shift) for shift in (0, 0.01)], "W4A8", "task")
    assert yes.supported is True
    assert "supports freezing o and v" in yes.sentence
    no = judge([sample(told(high, low), shift) for shift in (0, 0.01)], "W4A8", "task")
    assert no.supported is False
    assert "does not support freezing" in no.sentence
    norm, error, pooled = no.claims
    assert (norm.holds, error.holds, pooled.holds) == (True, False, False)
    assert norm.margin == pytest.approx(1.0)  # v: 2 to 1; o as well
    assert no.beyond == ("o",)
    # as a mean over blocks q and k are disturbed more, in the block of all the gradient o and v
    both = judge([sample(told((0.2, 2.0), high), s) for s in (0, 0.01)], "W4A8", "task")
    assert (both.claims[1].holds, both.claims[2].holds, both.supported) == (False, True, None)
    one = judge([sample(told(low, high))], "W4A8", "task")
    assert (one.supported, one.claims[1].error) == (None, None)
    mixed = [sample(told(low, high)), sample(told(high, low))]
    assert judge(mixed, "W4A8", "task").supported is None


def test_rows_are_ranked_by_error_and_pooled_by_gradient() -> None:
    rows = rank_projections([sample(told((0.2, 2.0), (0.4, 0.4)))], "task")
    assert [row.rank for row in rows] == [1, 2, 3, 4, 5, 6]
    assert {row.projection for row in rows[:2]} == {"q", "k"}
    q = rows[0]
    assert q.figures["weight.error"] == pytest.approx(1.1)
    assert q.figures["weight.pooled"] == pytest.approx(np.hypot(0.2, 0.2) / np.hypot(1, 0.1))
    assert q.deviations["weight.error"] is None
    assert q.figures["weight_sqnr"] is None


def test_refusals_leave_nothing_behind(base: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def refused(kind: type[Exception], words: str, *, source: Any = base, **changes: Any) -> None:
        with pytest.raises(kind, match=words):
            study_propagation(
                source, data=changes.pop("data", data), out=out, options=options(**changes)
            )
        assert not out.exists()

    refused(CheckpointError, "no such file", source=tmp_path / "absent.safetensors")
    refused(DataError, "expected the folders", data=tmp_path)
    refused(DataError, "no split 'nowhere'", split="nowhere")
    refused(ConfigError, "the study sets these", overrides={"quantizer.w_bits": 2})
    refused(ConfigError, "the study sets these", overrides={"freeze.rows": "o"})
    refused(ConfigError, "expected a weight above 0", overrides={"task": 0})
    refused(ConfigError, "multiple of the patch", overrides={"resolution": 65})
    refused(ConfigError, "unknown key", overrides={"no_such": 1})
    refused(ConfigError, "expected qkv, proj, lin1", overrides={"adapter.targets": "image_encoder.*"
            r"|mask_decoder\.iou_prediction_head\.layers\.0"})  # fmt: skip
    refused(ConfigError, "trains no weight", train=1, overrides={"adapter.kind": "bitfit"})
    refused(ConfigError, "expected --data", data=None, train=1)
    with pytest.raises(ConfigError, match=r"--seeds 0.*--bits 5,8.*--freeze vo"):
        PropagationOptions(seeds=0, bits=((5, 8),), freezes=("vo",))
    with pytest.raises(ConfigError, match="each once"):
        PropagationOptions(bits=((4, 8), (4, 8)))
    with pytest.raises(ConfigError, match="32 alone leaves"):
        PropagationOptions(bits=((4, 32),))
    assert read_bits(["32", "4", "3, 6"], "--bits") == (FLOAT, (4, 8), (3, 6))
    with pytest.raises(ConfigError, match="--bits four"):
        read_bits(["four"], "--bits")


def test_what_was_begun_otherwise_is_not_mixed(base: Path, data: Path, tmp_path: Path) -> None:
    out, few = tmp_path / "out", {"batches": 1}
    study_propagation(base, data=data, out=out, options=options((4, 8), **few))
    with pytest.raises(RunError, match="exists already"):
        study_propagation(base, data=data, out=out, options=options((4, 8), **few))
    other = options((4, 8), overrides={"distil.mask": 0}, **few)
    with pytest.raises(RunError, match=r"recipe\.distil: began with"):
        study_propagation(base, data=data, out=out, options=other, resume=True)


def test_the_command_prints_a_table_and_what_follows(base: Path, tmp_path: Path) -> None:
    command = [
        "study", "propagation", "--base", str(base), "--bits", "4", "--batches", "1",
        "--resolution", "64", "--set", "prompts=2", "--set", "distil.mask=0",
        "--set", "distil.embedding=0", "--out", str(tmp_path / "out"), "--quiet",
    ]  # fmt: skip
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["W4A8"] * 6
    assert "W4A8, loss task: does not decide on freezing o and v" in done.stderr
    assert "all batches are of one picture" in done.stderr
    again = CliRunner().invoke(app, [*command, "--resume", "--json"])
    assert json.loads(again.stdout)["losses"] == ["task"]
