"""`hwnas study exact` after `kill -9`: the same study, and nothing is solved or searched twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.cli import study_exact as command
from hwnas.config import make_config
from hwnas.errors import ConfigError, RunError
from hwnas.search import run_exact
from hwnas.workflows.exact.records import exact_from, exact_record
from hwnas.workflows.exact.study import ExactStudy, study_exact
from hwnas.workflows.resolve import resolve
from tests.workflows.dying import asked, kill_at, run, take_up, without_seconds, write_plugin

EVALUATIONS = 50


def arguments(plugin: Path) -> list[str]:
    return ["--space", "toy", "--objective", f"{plugin}:Noted", "--objective", "bitops",
            "--max-evaluations", str(EVALUATIONS), "--population", "20", "--seeds", "2",
            "--budgets", "2"]  # fmt: skip


def without_times(found: dict[str, Any]) -> Any:
    plain = without_seconds(found)
    del plain["sentences"]  # they say how long it took
    return plain


def test_a_killed_study_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    plugin, out = write_plugin(tmp_path / "plugin"), tmp_path / "out"
    whole = run(command, arguments(plugin))
    everything = len(asked(plugin))
    kept = kill_at(plugin, "exact", arguments(plugin), out, 3)
    rows = {row["key"]: row for row in map(json.loads, kept.decode().splitlines())}
    assert list(rows) == ["exact", "search/cold/0", "search/between/0"]
    found, again = take_up(command, plugin, arguments(plugin), out, kept)
    assert without_times(found) == without_times(whole)
    assert len(again) == 4 * EVALUATIONS, "four of six searches"
    assert everything > 6 * EVALUATIONS + 100, "tables and their check took the others"
    assert found["seconds"]["exact"] == rows["exact"]["seconds"]
    ended, nothing = take_up(command, plugin, arguments(plugin), out, kept)
    assert (ended, nothing) == (found, [])


def test_errors_that_a_model_measures_inside_are_kept(tmp_path: Path) -> None:
    plugin, out = write_plugin(tmp_path / "plugin"), tmp_path / "out"
    given = ["--space", "toy", "--objective", f"{plugin}:Errors", "--objective", "bitops",
             "--max-evaluations", "20", "--population", "8", "--seeds", "1", "--budgets", "1",
             "--set", "freeze.depth=3", "--set", "freeze.resolution=64"]  # fmt: skip
    kept = kill_at(plugin, "exact", given, out, 1)
    assert json.loads(kept)["key"] == "inside/errors/block 0"
    assert asked(plugin) == ["block 0", "block 1"]
    _, again = take_up(command, plugin, given, out, kept)
    assert again == ["block 1", "block 2"]


def study(out: Path | None, *, budgets: int = 2, seeds: int = 1, **changed: Any) -> ExactStudy:
    content: dict[str, Any] = {
        "space": "toy", "objectives": ["toy_quality", "bitops"], "population": 20,
        "max_evaluations": 40, **changed,
    }  # fmt: skip
    config = make_config("test", content)
    resume = out is not None and out.exists()
    return study_exact(config, budgets=budgets, seeds=seeds, out=out, resume=resume)


def test_more_seeds_may_be_added_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = study(out)
    log = (out / "measurements.jsonl").read_bytes()
    more = study(out, seeds=2)
    assert (out / "measurements.jsonl").read_bytes().startswith(log)
    assert more.settings["seeds"] == [0, 1]
    assert [row.found["cold"].values[:1] for row in more.rows] == [
        row.found["cold"].values for row in first.rows
    ]
    assert without_times(more.to_json()) == without_times(study(None, seeds=2).to_json())
    with pytest.raises(RunError, match="budgets: began with 2, now 3"):
        study(out, budgets=3)
    with pytest.raises(RunError, match=r"limits: began with \[\], now \['bitops<=1'\]"):
        study(out, limits=["bitops<=1"])
    with pytest.raises(RunError, match="population: began with 20, now 30"):
        study(out, population=30)
    with pytest.raises(ConfigError, match="an exact front has two objectives"):
        study(tmp_path / "three", objectives=["toy_quality", "bitops", "macs"])
    assert not (tmp_path / "three").exists()


def test_exact_designs_come_back_to_the_last_bit() -> None:
    config = make_config("test", {"space": "toy", "objectives": ["toy_quality", "bitops"]})
    problem = resolve(config).problem
    result = run_exact(problem, points=6)
    text = json.dumps(exact_record(result), allow_nan=False)
    again = exact_from(json.loads(text), problem.space)
    assert again.certificates == result.certificates
    assert (again.shared, again.solves, again.seconds) == (
        result.shared, result.solves, result.seconds,
    )  # fmt: skip
    assert again.front.ids == result.front.ids
    assert again.front.columns == result.front.columns
    for name in ("values", "lo", "hi"):
        np.testing.assert_array_equal(
            getattr(again.front.designs, name), getattr(result.front.designs, name)
        )
