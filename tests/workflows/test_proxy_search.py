"""Searching by a proxy alone: picks within budgets, baselines, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from hwnas.cli import study_search as command
from hwnas.cost import CostContext, build
from hwnas.errors import ConfigError
from hwnas.space import load_space
from hwnas.workflows.proxy_search import (
    CHANCE,
    ProxySearch,
    ProxySearchOptions,
    SearchedBy,
    search_by_proxies,
)

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
