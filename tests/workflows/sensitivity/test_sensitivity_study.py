"""Sensitivities against measured losses, on made-up errors of the toy space."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from hwnas.cli import study_sensitivity as command
from hwnas.errors import ConfigError, CostError
from hwnas.workflows.sensitivity import SensitivityOptions, study_sensitivity
from hwnas.workflows.sensitivity.files import checked_rows, most_sensitive

FROZEN = {"depth": 3, "resolution": 128}


@pytest.fixture
def options(plugin: str) -> SensitivityOptions:
    return SensitivityOptions(
        cost=f"{plugin}:Errors", against=f"{plugin}:Quality", top=1.0, plans=12, freeze=FROZEN
    )


def test_a_loss_that_is_the_sum_gives_its_scale_and_order(options: SensitivityOptions) -> None:
    study = study_sensitivity("toy", options=options)
    check = study.check
    assert check is not None
    assert check.scale == pytest.approx(0.2)
    assert [g.group for g in check.groups] == ["blocks.0", "blocks.1", "blocks.2"]
    for i, group in enumerate(check.groups):
        assert group.predicted == pytest.approx(9 / (i + 1) + 4.0**-2 - 4.0**-8)
        assert group.measured == pytest.approx(0.2 * group.predicted)
    assert check.order.spearman == pytest.approx(1.0)
    assert check.ranks["errors"].spearman == pytest.approx(1.0)
    assert check.ranks["errors"].lo is not None
    assert {"errors", "bitops", "log params", "log MACs", "depth"} == set(check.ranks)
    assert check.ranks["depth"].spearman is None, "every plan has three blocks"
    assert study.unit == "points"
    assert np.array(study.groups[0]["errors"]).max() == pytest.approx(0.2 * (9 + 4.0**-2))


def test_plans_are_around_the_optimum_and_all_different(options: SensitivityOptions) -> None:
    check = study_sensitivity("toy", options=options).check
    assert check is not None
    assert len(check.sums) == len(check.losses) == 12
    assert len(set(check.sums)) > 8
    np.testing.assert_allclose(np.array(check.losses), 0.2 * (np.array(check.sums) - 3 * 4.0**-8))


def test_the_top_groups_are_those_with_the_largest_errors(options: SensitivityOptions) -> None:
    check = study_sensitivity("toy", options=replace(options, top=0.5)).check
    assert check is not None
    assert [g.group for g in check.groups] == ["blocks.0", "blocks.1"]


def test_losses_that_go_the_other_way_give_no_scale_and_are_told(
    options: SensitivityOptions,
) -> None:
    turned = replace(options, options={options.against: {"loss": -0.2}})  # type: ignore[dict-item]
    study = study_sensitivity("toy", options=turned)
    assert study.check is not None
    assert study.check.scale is None
    assert study.unit == "NSR"
    said = " ".join(study.sentences())
    assert "no scale" in said
    assert "bitops" in said
    assert "order these plans better than the sensitivities do" in said


def test_files_hold_matrices_check_and_scale(options: SensitivityOptions, tmp_path: Path) -> None:
    study = study_sensitivity("toy", options=options, out=tmp_path / "out")
    factor, unit = (tmp_path / "out" / "tables.json").read_text().split()
    assert (float(factor), unit) == (pytest.approx(0.2), "points")
    rows = list(csv.DictReader((tmp_path / "out" / "matrices.csv").read_text().splitlines()))
    assert len(rows) == 27
    assert rows[0]["options"] == "blocks.0.width=32 blocks.0.bits=2"
    assert float(rows[0]["error points"]) == pytest.approx(0.2 * (9 + 4.0**-2), rel=1e-5)
    written = json.loads((tmp_path / "out" / "sensitivity.json").read_text())
    assert written["check"]["scale"] == pytest.approx(0.2)
    text = (tmp_path / "out" / "sensitivity.md").read_text()
    assert "## Groups that were measured" in text
    assert "| blocks.2 |" in text
    assert most_sensitive(study)[0]["group"] == "blocks.0"
    assert len(checked_rows(study)) == 3


def test_without_a_check_nothing_is_measured_and_a_resolution_is_held(plugin: str) -> None:
    study = study_sensitivity(
        "toy", options=SensitivityOptions(cost=f"{plugin}:Errors", against=None)
    )
    assert study.check is None
    assert study.sentences() == ["held at resolution=192; another with --set freeze.NAME=VALUE"]
    assert checked_rows(study) == []


def test_what_cannot_be_checked_is_refused(options: SensitivityOptions) -> None:
    with pytest.raises(CostError, match="bitops has no matrices"):
        study_sensitivity("toy", options=replace(options, cost="bitops"))
    genes = {f"blocks.{i}.{n}": v for i in range(3) for n, v in (("width", 32), ("bits", 8))}
    with pytest.raises(CostError, match="no group of errors has a lower option"):
        study_sensitivity("toy", options=replace(options, freeze={**FROZEN, **genes}))
    with pytest.raises(ConfigError, match="plans=2"):
        SensitivityOptions(plans=2)


def test_the_command_prints_what_was_measured(plugin: str, tmp_path: Path) -> None:
    app = typer.Typer()
    command.add_to(app)
    common: list[Any] = [
        "toy", "--cost", f"{plugin}:Errors", "--against", f"{plugin}:Quality", "--quiet",
        "--set", "freeze.depth=3", "--set", "freeze.resolution=64", "--top", "1",
    ]  # fmt: skip
    done = CliRunner().invoke(app, [*common, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "loss of quality points" in done.stdout
    assert "scale: an error of 1 is 0.2 points of loss in quality" in done.stderr
    found = json.loads(CliRunner().invoke(app, [*common, "--json"]).stdout)
    assert len(found["check"]["groups"]) == 3
    alone = CliRunner().invoke(app, [*common, "--no-check"])
    assert "blocks.0" in alone.stdout
