"""`hwnas study exact`: what it judges by, what it gives, and its tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from hwnas.cli import study_exact as command
from hwnas.config import make_config
from hwnas.errors import ConfigError
from hwnas.search import run_exhaustive
from hwnas.workflows.exact.study import ExactStudy, study_exact
from hwnas.workflows.exact.study_tables import rows_of, sentences
from hwnas.workflows.resolve import resolve

TOY = {
    "space": "toy", "objectives": ["toy_quality", "bitops"], "population": 20,
    "max_evaluations": 60,
}  # fmt: skip


@pytest.fixture(scope="module")
def study() -> ExactStudy:
    return study_exact(make_config("test", dict(TOY)), budgets=4, seeds=2)


def test_optima_are_those_of_exhaustive_search(study: ExactStudy) -> None:
    problem = resolve(make_config("test", dict(TOY))).problem
    truth = run_exhaustive(problem).front.values
    assert [row.budget for row in study.rows] == sorted(row.budget for row in study.rows)
    for row in study.rows:
        within = truth[truth[:, 1] <= row.budget * (1 + 1e-9), 0]
        assert row.optimum == pytest.approx(within.max(), rel=1e-9)


def test_gaps_are_shares_of_optimum_and_range(study: ExactStudy) -> None:
    for row in study.rows:
        for found in row.found.values():
            for value, behind, percent in zip(
                found.values, found.behind, found.percent, strict=True
            ):
                assert value is not None
                assert behind is not None
                assert behind == pytest.approx(max(row.optimum - value, 0.0), abs=1e-9)
                assert percent == pytest.approx(100 * behind / row.optimum)
    assert study.worst("cold") == max(
        share or 0.0 for row in study.rows for share in row.found["cold"].percent
    )


def test_a_seeded_search_ends_at_the_optimum_and_one_between_is_given_none_of_it(
    study: ExactStudy,
) -> None:
    behind = {
        start: [loss for row in study.rows for loss in row.found[start].behind]
        for start in ("cold", "between", "seeded")
    }
    assert set(behind["seeded"]) == {0.0}
    assert sum(map(bool, behind["between"])) > 0
    assert sum(map(bool, behind["cold"])) > 0
    assert study.worst("seeded") == 0.0
    assert min(study.hypervolume["seeded"]) >= 1.0
    given = study.settings["given"]
    assert given["cold"] == 0 < given["between"] < given["seeded"] <= 9
    assert study.settings["seeds"] == [0, 1]


def test_tables_and_words_hold_the_figures(study: ExactStudy, tmp_path: Path) -> None:
    rows = rows_of(study)
    assert len(rows) == 4
    assert list(rows[0])[:3] == ["bitops GBitOPs", "exact toy_quality score", "cold"]
    first, second, third, aim, _, _ = sentences(study)
    assert first.startswith("cold: NSGA-II is at most")
    assert second.startswith("between: NSGA-II is at most")
    assert third.startswith("seeded: NSGA-II is at most 0.00 % behind")
    assert "the aim of 1 %" in aim
    again = study_exact(make_config("test", dict(TOY)), budgets=4, seeds=2, out=tmp_path / "out")
    written = json.loads((tmp_path / "out" / "exact.json").read_text())
    assert [row["optimum"] for row in written["rows"]] == [row.optimum for row in again.rows]
    assert [r.found for r in again.rows] == [r.found for r in study.rows]
    assert (tmp_path / "out" / "exact.md").read_text().count("\n| ") == 6


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="budgets=0"):
        study_exact(make_config("test", dict(TOY)), budgets=0)
    with pytest.raises(ConfigError, match="two objectives, the problem 1"):
        study_exact(make_config("test", {**TOY, "objectives": ["bitops"]}))


def test_a_search_that_finds_nothing_has_no_figure() -> None:
    limits = {"limits": ["toy_quality>=0.6", "bitops<=0.12"]}
    study = study_exact(make_config("test", {**TOY, **limits, "max_evaluations": 4}), seeds=1)
    assert study.worst("cold") is None
    assert study.hypervolume["cold"] == (0.0,)
    assert np.isfinite([row.optimum for row in study.rows]).all()


def test_the_command_prints_the_table() -> None:
    app = typer.Typer()
    command.add_to(app)
    common = ["--space", "toy", "--objective", "toy_quality", "--objective", "bitops",
              "--max-evaluations", "60", "--seeds", "1", "--budgets", "2", "--quiet"]  # fmt: skip
    done = CliRunner().invoke(app, common)
    assert done.exit_code == 0, done.output
    assert "exact toy_quality score" in done.stdout
    assert "seeded: NSGA-II is at most" in done.stderr
    found = json.loads(CliRunner().invoke(app, [*common, "--json"]).stdout)
    assert len(found["rows"]) == 2
