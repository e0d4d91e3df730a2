"""Searching by a proxy alone: picks within budgets, baselines, resume, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from hwnas.cli import study_search as command
from hwnas.cost import CostContext, build
from hwnas.errors import ConfigError, RunError
from hwnas.space import load_space
from hwnas.workflows.study_search import (
    CHANCE,
    ProxySearch,
    ProxySearchOptions,
    SearchedBy,
    search_by_proxies,
)
from tests.workflows.dying import asked, kill_at, run, take_up, without_seconds, write_plugin

OPTIONS = ProxySearchOptions(
    costs=("toy_quality", "few=model_size"), against="toy_quality", max_evaluations=150,
    population=20,
)  # fmt: skip


@pytest.fixture(scope="module")
def found() -> ProxySearch:
    return search_by_proxies("toy", options=OPTIONS)


def test_each_pick_keeps_its_budget_and_has_its_measured_value(found: ProxySearch) -> None:
    space = load_space("toy")
    context = CostContext(space)
    archs = {arch.id: arch for chunk in space.enumerate() for arch in chunk}
    quality, bitops = build("toy_quality", context), build("bitops", context)
    assert list(found.budgets) == sorted(found.budgets)
    for row in found.rows:
        for arch_id, value, budget in zip(row.arch_ids, row.values, found.budgets, strict=True):
            if arch_id is None:
                assert value is None
                continue
            assert bitops.evaluate([archs[arch_id]])[0] <= budget
            assert quality.evaluate([archs[arch_id]])[0] == value


def test_the_truth_itself_beats_every_baseline(found: ProxySearch) -> None:
    assert [row.name for row in found.rows] == [
        "toy_quality", "few", "log params", "log MACs", "depth", CHANCE,
    ]  # fmt: skip
    assert [row.baseline for row in found.rows] == [False, False, True, True, True, True]
    means = {row.name: row.mean for row in found.rows}
    assert means["toy_quality"] is not None
    assert all(mean is None or mean <= means["toy_quality"] for mean in means.values())
    first, second = found.sentences()
    assert "a search by toy_quality ends" in first
    assert "beats log params, log MACs, depth" in first
    assert "few" in second


def test_a_search_without_a_design_within_a_budget_has_no_mean() -> None:
    rows = (
        SearchedBy("p", False, ("a", None), (0.5, None), 1.0),
        SearchedBy("q", False, ("a", "b"), (0.5, 0.7), 1.0),
        SearchedBy("depth", True, ("a", "b"), (0.5, 0.6), 1.0),
    )
    told = ProxySearch("s", "loss", "x", "min", (1.0, 2.0), rows)
    assert told.sentences() == [
        "p: nothing within some budgets, so it has no mean",
        "a search by q ends at a mean loss of 0.6 and beats none of the baselines: depth 0.55",
    ]


def test_names_that_come_twice_and_odd_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="bitops is there twice"):
        search_by_proxies("toy", options=ProxySearchOptions(costs=("bitops", "bitops")))
    with pytest.raises(ConfigError, match="expected 1 or more"):
        search_by_proxies("toy", options=ProxySearchOptions(budgets=0))


def test_the_command_prints_and_writes(tmp_path: Path) -> None:
    app = typer.Typer()
    command.add_to(app)
    common = ["--space", "toy", "--costs", "size=model_size", "--against", "toy_quality",
              "--max-evaluations", "60", "--population", "20", "--budgets", "2", "--quiet",
              "--set", "freeze.resolution=128"]  # fmt: skip
    done = CliRunner().invoke(app, [*common, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "size" in done.stdout
    assert "a search by size ends at a mean toy_quality" in done.stderr
    written = json.loads((tmp_path / "out" / "search.json").read_text())
    assert len(written["budgets"]) == 2
    assert "| chance (baseline) |" in (tmp_path / "out" / "search.md").read_text()


def arguments(plugin: Path) -> list[str]:
    return ["--space", "toy", "--costs", f"few=model_size,{plugin}:Noted", "--against",
            f"{plugin}:Other", "--max-evaluations", "90", "--population", "20", "--budgets", "3",
            "--set", "freeze.resolution=128"]  # fmt: skip


def kept_of(log: bytes, prefix: str) -> dict[str, Any]:
    rows = map(json.loads, log.decode().splitlines())
    return {row["key"].removeprefix(prefix): row for row in rows if row["key"].startswith(prefix)}


def test_a_killed_study_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    plugin = write_plugin(tmp_path / "plugin")
    whole = run(command, arguments(plugin))
    assert len(asked(plugin)) == 90 + len({id_ for row in whole["rows"] for id_ in row["arch_ids"]})

    cut = tmp_path / "cut"  # 90 values and the end of the first search, then half of the second
    kept = kill_at(plugin, "search", arguments(plugin), cut, 91 + 40)
    values = kept_of(kept, "value/noted/")
    assert 40 <= len(values) < 90
    assert set(kept_of(kept, "search/")) == {"few"}
    found, again = take_up(command, plugin, arguments(plugin), cut, kept)
    assert without_seconds(found) == without_seconds(whole)
    searched = again[: 90 - len(values)]
    assert not set(searched) & set(values)
    assert len(again) == len(searched) + len(kept_of(cut_log(cut), "against/"))
    first, second, *_ = found["rows"]
    assert first["seconds"] == kept_of(kept, "search/")["few"]["seconds"]
    assert second["seconds"] > sum(row["seconds"] for row in values.values())

    kept = kill_at(plugin, "search", arguments(plugin), tmp_path / "late", 2 * 91 + 3 + 2)
    assert len(kept_of(kept, "against/")) == 2
    found, again = take_up(command, plugin, arguments(plugin), tmp_path / "late", kept)
    assert without_seconds(found) == without_seconds(whole)
    assert len(again) == len(kept_of(cut_log(cut), "against/")) - 2
    ended, nothing = take_up(command, plugin, arguments(plugin), cut, b"")
    assert (ended["rows"], nothing) == (found_rows(cut), [])


def cut_log(out: Path) -> bytes:
    return (out / "measurements.jsonl").read_bytes()


def found_rows(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((out / "search.json").read_text())["rows"]
    return rows


def test_other_settings_are_not_mixed_and_a_refusal_leaves_no_folder(tmp_path: Path) -> None:
    plugin, out = write_plugin(tmp_path / "plugin"), tmp_path / "out"

    def study(resume: bool = True, **changed: Any) -> ProxySearch:
        options = ProxySearchOptions(
            costs=(f"{plugin}:Noted",), against="toy_quality", max_evaluations=20, population=8,
            budgets=1,
        )  # fmt: skip
        return search_by_proxies("toy", options=replace(options, **changed), out=out, resume=resume)

    study(resume=False)
    with pytest.raises(RunError, match="exists already; choose another folder"):
        study(resume=False)
    with pytest.raises(RunError, match="max_evaluations: began with 20, now 30"):
        study(max_evaluations=30)
    with pytest.raises(RunError, match=r"cost\.toy_quality\.spec: began with None"):
        study(costs=(f"{plugin}:Noted", "toy_quality"))
    with pytest.raises(RunError, match=r"genes_sha256: began with"):
        study(freeze={"depth": 2})
    plugin.write_text(plugin.read_text() + "\n# another version\n")
    with pytest.raises(RunError, match=r"cost\.noted\.sha256: began with"):
        study()
    (tmp_path / "strange").mkdir()
    with pytest.raises(RunError, match="is not the folder of a study"):
        search_by_proxies("toy", options=OPTIONS, out=tmp_path / "strange", resume=True)
    with pytest.raises(ConfigError, match="--resume: expected the folder"):
        search_by_proxies("toy", options=OPTIONS, resume=True)
    with pytest.raises(ConfigError, match="is there twice"):
        search_by_proxies(
            "toy", options=replace(OPTIONS, costs=("bitops", "bitops")), out=tmp_path / "none"
        )
    assert not (tmp_path / "none").exists()
