"""`hwnas bench deploy`: what is compared with what, and what it says after a mistake."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from hwnas.cli.app import app
from hwnas.cost import CostBatch, CostContext
from hwnas.errors import ArchError, ConfigError, CostError, DeviceError, HwnasError
from hwnas.space import Arch
from hwnas.space.axes import arch_with
from hwnas.workflows.bench_deploy import DeployBench, DesignChoice, bench, bench_deploy
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
        assert row["predicted ms"] is None
    # the same network in two runtimes sees the same
    assert rows[0]["IoU box %"] == pytest.approx(rows[1]["IoU box %"], abs=0.05)
    assert rows[3]["encoder MB"] < rows[2]["encoder MB"] < rows[1]["encoder MB"] / 2  # type: ignore[operator]


class Latency:
    """Milliseconds that only a test knows: 7 for the largest network, 3 for all others."""

    name, unit, direction, model_version = "latency", "ms", "min", "1"

    def __init__(self, context: CostContext) -> None:
        self.largest = arch_with(context.space, {}).genes["keep.0"]

    def evaluate(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        return np.array([7.0 if a.genes["keep.0"] == self.largest else 3.0 for a in archs])

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        value = self.evaluate(archs)
        inside = np.zeros(len(value), np.bool_)
        return CostBatch(value, value - 1, value + 2, 0.9, inside, "predicted", "ms", "1")


@pytest.mark.slow
def test_our_module_takes_its_turn_beside_its_predicted_latency(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("tvm")
    monkeypatch.setattr(bench, "build", lambda name, context: Latency(context))
    rows = bench_deploy(SMALLEST, quick(runtimes=("torch", "tvm")))
    assert [row["runtime"] for row in rows] == ["torch", "tvm", "tvm"]
    known = [[row[k] for k in ("predicted ms", "from ms", "to ms", "known as")] for row in rows]
    assert known == [[None] * 4, [7, 6, 9, "predicted"], [3, 2, 5, "predicted"]]


def test_without_a_model_of_latency_nothing_is_predicted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("onnxruntime")

    def missing(name: str, context: CostContext) -> None:
        raise CostError("nothing was measured")

    monkeypatch.setattr(bench, "build", missing)
    rows = bench_deploy(SMALLEST, quick(runtimes=("onnxruntime",)))
    assert all(row["predicted ms"] is None for row in rows)
    assert rows[0]["faster"] == 1  # full precision is there
    assert "nothing was measured" in caplog.text


@pytest.mark.parametrize(
    ("choice", "options", "error", "message"),
    [
        (DesignChoice("nowhere"), {}, ConfigError, "nowhere: no run folder"),
        (DesignChoice("smallest", ("zz",), "sam-vit-t"), {}, ArchError, "no design begins with zz"),
        (DesignChoice("smallest", (), "toy"), {}, HwnasError, "bench deploy needs a supernet"),
        (SMALLEST, {"resolution": 300}, ConfigError, "--resolution 300: expected one of sam-vit-t"),
        (SMALLEST, {"runtimes": ("torch",)}, ConfigError, "torch runs full precision alone"),
        (SMALLEST, {"runtimes": ()}, ConfigError, "none: expected some of torch"),
        (SMALLEST, {"runtimes": ("tensorrt",)}, ConfigError, "tensorrt: expected some of torch"),
        (DesignChoice("smallest", (), "sam-vit-t", device="t4"), {"runtimes": ("tvm",)},
         DeviceError, "t4:default is not this machine"),
        (DesignChoice("smallest", (), "toy", random_weights=True), {}, ConfigError,
         "toy is not one of"),
        (DesignChoice("smallest", (), "toy", "x.pth"), {}, HwnasError, "toy names no builder"),
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


def test_random_weights_take_no_supernet() -> None:
    with pytest.raises(ConfigError, match="leave --supernet out"):
        DesignChoice("smallest", (), "sam-vit-b", "x.pth", random_weights=True)


def test_numbers_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 rounds"):
        DeployBench(rounds=0)


def test_a_network_is_timed_once() -> None:
    pytest.importorskip("onnxruntime")
    rows = bench_deploy(
        DesignChoice("largest", space="sam-vit-t"),
        quick(runtimes=("onnxruntime",), resolution=None),
    )
    assert [row["network"] for row in rows] == ["full precision", "W8A8, largest"]


def test_the_command_line_prints_rows() -> None:
    pytest.importorskip("onnxruntime")
    done = CliRunner().invoke(
        app, ["bench", "deploy", "smallest", "--space", "sam-vit-t", "--runtimes", "onnxruntime",
              "--resolution", "128", "--rounds", "1", "--json"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [row["px"] for row in rows] == [128] * 3
