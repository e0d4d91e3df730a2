"""`hwnas study space` on the command line: what it prints, and what a mistake says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest import mock

import pytest

from hwnas.cli import main


def run(*arguments: object) -> int:
    with mock.patch.object(sys, "argv", ["hwnas", *map(str, arguments)]):
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def test_bitops_alone_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert run("study", "space", "sam-vit-s", "--no-quality", "--json", "--out", out) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["space"] == "sam-vit-s"
    assert {p["axis"] for p in found["points"]} >= {"resolution", "token_grid", "dim", "bits"}
    assert all(p["iou"] is None for p in found["points"])
    assert "| axis | value | GBitOPs |" in (out / "space_study.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sam-vit-q"], "sam-vit-q"),
        (["sam-vit-t", "--supernet", "none.safetensors"], "none.safetensors: no such file"),
        (["sam-vit-t", "--data", "nowhere"], "expected the folders images/"),
        (["sam-vit-t", "--prompt", "circle"], "--prompt circle: expected box or point"),
        (["sam-vit-t", "--max-images", "0"], "--max-images 0: expected 1 or more"),
        (["sam-vit-t", "--axis", "depht"], "nearest: depth"),
        (["sam-vit-b"], "no weights are shipped under this name"),
    ],
)
def test_mistakes_end_with_one_message_and_leave_nothing(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("study", "space", *arguments, "--quiet", "--out", tmp_path / "run") == 2
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message
    assert not (tmp_path / "run").exists()


def test_a_folder_of_something_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    arguments = ["study", "space", "sam-vit-t", "--no-quality", "--out", tmp_path / "run"]
    assert run(*arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert run(*arguments, "--resume") == 2
    assert "not the folder of a study" in capsys.readouterr().err
