"""`hwnas export`: what it prints, and what it says after a mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hwnas.cli.app import app
from hwnas.errors import ArchError, ConfigError, HwnasError
from hwnas.workflows.search import search


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["export", *arguments])


def test_check_prints_each_layer_and_what_it_costs() -> None:
    done = run("smallest", "--space", "sam-vit-t", "--device", "host", "--check")
    assert done.exit_code == 0, done.output
    assert "blocks.11.qkv" in done.output
    assert "widened" in done.output
    assert "times as many" in done.output


def test_check_as_json() -> None:
    done = run("smallest", "--space", "sam-vit-t", "--device", "host", "--check", "--json")
    content = json.loads(done.stdout)
    assert {layer["fate"] for layer in content["layers"]} == {"native", "widened", "float"}
    assert len(content["summary"]) == 4


def test_a_run_is_exported_by_an_id(tmp_path: Path) -> None:
    front = search(
        "sam-vit-t", objectives=["bitops", "model_size"], max_evaluations=40, population=20,
        out=tmp_path / "run",
    )  # fmt: skip
    out = tmp_path / "out"
    smallest = front.best("bitops").id
    done = run(str(tmp_path / "run"), "--pick", smallest[:8], "--out", str(out), "--format",
               "torch", "--quiet", "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["arch_id"] == smallest
    card = json.loads((out / "card.json").read_text())
    assert card["run"] == "run"
    assert {cost["name"] for cost in card["costs"]} >= {"bitops", "model_size"}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["smallest", "--space", "sam-vit-t"], ConfigError, "--out: name the folder"),
        (["nowhere"], ConfigError, "nowhere: no run folder"),
        (["nowhere", "--space", "sam-vit-t"], ArchError, "cannot be read"),
        (["smallest", "--space", "sam-vit-t", "--check"], ConfigError, "--check: no device"),
        (["smallest", "--space", "toy", "--out", "x"], HwnasError, "needs a supernet"),
    ],
)
def test_mistakes(
    arguments: list[str], error: type[HwnasError], message: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert isinstance(done.exception, error)
    assert message in str(done.exception)
    assert list(tmp_path.iterdir()) == []
