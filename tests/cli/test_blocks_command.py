"""`hwnas blocks` on the command line: tables, files, what a mistake says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hwnas.cli.blocks import app
from hwnas.errors import ConfigError, DataError
from hwnas.space import load_space
from tests.blocks.made_libraries import library

SPACE = "search_spaces.sam_blocks:sam_vit_t_blocks"
LOSSES = {"vit-d3-r4-fp16": 0.0, "vit-d3-r4-w8a8": 0.1, "vit-d3-r4-w4a4": 0.4,
          "conv-d1-r2-w8a8": 0.9}  # fmt: skip


@pytest.fixture
def packed(tmp_path: Path) -> str:
    losses = {(slot, block): nsr for slot in range(4) for block, nsr in LOSSES.items()}
    return str(library(losses, slots=4, networks={}).pack(tmp_path / "library.json"))


def test_a_filter_prints_counts_and_writes_a_space(packed: str, tmp_path: Path) -> None:
    out, details = tmp_path / "left.yaml", tmp_path / "why.json"
    arguments = ["filter", packed, "--space", SPACE, "--device", "jetson-orin"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(out), "--details", str(details)])
    assert done.exit_code == 0, done.output
    assert done.stdout.split()[:6] == ["device", "bits", "native", "kept", "slow", "beaten"]
    assert "times are estimated" in done.stderr
    left = load_space(str(out))
    kept = left.gene("slots.1.block").options
    assert "vit-d3-r4-fp16" in kept
    (why,) = json.loads(details.read_text())
    assert len(why["slots"][1]["kept"]) == len(kept)
    assert json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout) == [why]


def test_devices_are_compared_side_by_side(packed: str) -> None:
    arguments = ["filter", packed, "--space", SPACE]
    devices = ["--device", "jetson-orin", "--device", "raspberry-pi-5"]
    done = CliRunner().invoke(app, [*arguments, *devices])
    assert {line.split()[0] for line in done.stdout.splitlines()[1:]} == {
        "jetson-agx-orin-64gb:maxn", "raspberry-pi-5:default"
    }  # fmt: skip


def test_mistakes_have_words(packed: str, tmp_path: Path) -> None:
    def error(*arguments: str) -> BaseException | None:
        return CliRunner().invoke(app, list(arguments)).exception

    two = ("--device", "jetson-orin", "--device", "t4", "--out", "x.yaml")
    assert isinstance(error("filter", packed, *two), ConfigError)
    assert isinstance(error("filter", str(tmp_path), "--device", "t4"), DataError)
    few = error("score", packed, "--networks", "2")
    assert isinstance(few, ConfigError)
    assert "--networks 2" in str(few)
    name = error("finetune", packed, "--network", "a,b", "--data", "d", "--out", "w.pt")
    assert "ends in .safetensors" in str(name)
