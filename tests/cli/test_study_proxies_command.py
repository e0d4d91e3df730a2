"""`hwnas study proxies` on the command line: options, tables, JSON, what a mistake says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from hwnas.cli import study_proxies
from hwnas.errors import ConfigError
from search_spaces.toy import toy
from tests.cost_models.toy_subnets import write_subnets


@pytest.fixture
def app() -> typer.Typer:
    found = typer.Typer()
    study_proxies.add_to(found)
    return found


@pytest.fixture
def subnets(tmp_path: Path) -> Path:
    return write_subnets(tmp_path / "subnets.jsonl", toy(), 50, seed=0, prompt=None)


def test_tables_words_and_files(app: typer.Typer, subnets: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    common = ["--space", "toy", "--subnets", str(subnets), "--bootstrap", "20", "--quiet"]
    done = CliRunner().invoke(
        app,
        [*common, "--costs", "toy_quality,system=bitops", "--set", "cost.system.part=system",
         "--bands", "2", "--out", str(out)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "Kendall tau within bands of BitOPs" in done.stdout
    assert "toy_quality beats log params, log MACs, depth" in done.stderr
    assert (out / "proxies.md").is_file()
    again = CliRunner().invoke(app, [*common, "--costs", "toy_quality", "--json"])
    found = json.loads(again.stdout)
    assert [model["name"] for model in found["models"]] == [
        "toy_quality", "log params", "log MACs", "depth"
    ]  # fmt: skip
    assert found["models"][0]["overall"]["kendall"]["value"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "bitops.part=system"], "expected cost.NAME.OPTION=VALUE"),
        (["--set", "freeze.resolution=64"], "takes the subnets as they are"),
        (["--top", "2"], "--top 2.0: expected a share"),
    ],
)
def test_mistakes_have_words(
    arguments: list[str], words: str, app: typer.Typer, subnets: Path
) -> None:
    done = CliRunner().invoke(app, ["--space", "toy", "--subnets", str(subnets), *arguments])
    assert isinstance(done.exception, ConfigError)
    assert words in str(done.exception)
