"""`hwnas study scratch` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from hwnas.cli import study_scratch
from hwnas.errors import ConfigError
from tests.supernet.scratch.dots import dots_folder


@pytest.fixture
def app() -> typer.Typer:
    found = typer.Typer()
    study_scratch.add_to(found)
    return found


def test_a_few_networks_are_trained_and_taken_up_again(app: typer.Typer, tmp_path: Path) -> None:
    data, out = dots_folder(tmp_path / "dots"), tmp_path / "out"
    common = [
        "--space", "search_spaces.mobile_cnn:tile_cnn", "--data", str(data), "--out", str(out),
        "--steps", "2", "--batch", "8", "--tiles", "16", "--val-tiles", "8", "--span", "48",
        "--quiet",
    ]  # fmt: skip
    done = CliRunner().invoke(app, [*common, "--archs", "smallest"])
    assert done.exit_code == 0, done.output
    assert "accuracy" in done.stdout
    assert f"wrote {out}" in done.stderr
    again = CliRunner().invoke(app, [*common, "--archs", "random:1", "--resume", "--json"])
    assert json.loads(again.stdout)["summary"]["networks"] == 2
    failed = CliRunner().invoke(app, [*common, "--resume", "--seeds", "0"])
    assert isinstance(failed.exception, ConfigError)
