"""`hwnas bench deploy`: what is compared with what, and what it says after a mistake."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hwnas.cli.app import app
from hwnas.errors import ArchError, ConfigError, DeviceError, HwnasError
from hwnas.workflows.bench_deploy import DeployBench, DesignChoice, bench_deploy
from tests.workflows.finetune.finetune_folders import write_disks

SMALLEST = DesignChoice("smallest", space="sam-vit-t")


def quick(**changes: object) -> DeployBench:
    given = {"runtimes": ("torch", "onnxruntime"), "resolution": 128, "rounds": 1, **changes}
    return DeployBench(**given)  # type: ignore[arg-type]


def test_designs_stand_beside_the_full_network(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    data = write_disks(tmp_path / "disks")
    rows = bench_deploy(SMALLEST, quick(data=data, max_images=2, max_prompts=2, split="val"))
    names = [(row["network"], row["runtime"], row["px"]) for row in rows]
    assert names[:3] == [
        ("full precision", "torch", 128), ("full precision", "onnxruntime", 128),
        ("W8A8, largest", "onnxruntime", 128),
    ]  # fmt: skip
    assert len(names) == 4
    assert names[3][1:] == ("onnxruntime", 128)
    full = min(row["encoder ms"] for row in rows[:2])  # type: ignore[type-var]
    for row in rows:
        assert row["faster"] == pytest.approx(full / row["encoder ms"])  # type: ignore[operator]
        assert row["with a box ms"] > row["encoder ms"] > 0  # type: ignore[operator]
        assert 0 <= row["IoU box %"] <= 100  # type: ignore[operator]
        assert row["predicted"] is None
    # the same network in two runtimes sees the same
    assert rows[0]["IoU box %"] == pytest.approx(rows[1]["IoU box %"], abs=0.05)
    assert rows[3]["encoder MB"] < rows[2]["encoder MB"] < rows[1]["encoder MB"] / 2  # type: ignore[operator]


@pytest.mark.slow
def test_our_module_takes_its_turn_with_its_predicted_latency(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("tvm")
    with caplog.at_level(logging.WARNING):
        rows = bench_deploy(SMALLEST, quick(runtimes=("tvm",)))
    assert [row["runtime"] for row in rows] == ["tvm", "tvm"]
    assert rows[0]["faster"] is None  # nothing in full precision to compare with
    for row in rows:
        assert row["predicted"] is not None or caplog.text


@pytest.mark.parametrize(
    ("choice", "options", "error", "message"),
    [
        (DesignChoice("nowhere"), {}, ConfigError, "nowhere: no run folder"),
        (DesignChoice("smallest", ("zz",), "sam-vit-t"), {}, ArchError, "no design begins with zz"),
        (DesignChoice("smallest", (), "toy"), {}, HwnasError, "bench deploy needs a supernet"),
        (SMALLEST, {"resolution": 300}, ConfigError, "--resolution 300: sam-vit-t has"),
        (SMALLEST, {"runtimes": ("tensorrt",)}, ConfigError, "tensorrt: expected some of torch"),
        (DesignChoice("smallest", (), "sam-vit-t", device="t4"), {"runtimes": ("tvm",)},
         DeviceError, "t4:default is not this machine"),
        (DesignChoice("smallest", (), "toy", random_weights=True), {}, ConfigError,
         "toy is not one of"),
    ],
)  # fmt: skip
def test_mistakes(
    choice: DesignChoice, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        bench_deploy(choice, quick(**options))


def test_random_weights_have_no_quality(tmp_path: Path) -> None:
    choice = DesignChoice("smallest", space="sam-vit-b", random_weights=True)
    with pytest.raises(ConfigError, match="leave --data out"):
        bench_deploy(choice, quick(data=write_disks(tmp_path / "disks"), split="val"))


def test_numbers_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 rounds"):
        DeployBench(rounds=0)


def test_the_command_line_prints_rows() -> None:
    done = CliRunner().invoke(
        app, ["bench", "deploy", "smallest", "--space", "sam-vit-t", "--runtimes", "torch",
              "--resolution", "128", "--rounds", "1", "--json"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [row["network"] for row in rows] == ["full precision"]
    assert rows[0]["faster"] == 1
