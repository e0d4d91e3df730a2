"""Curves elsewhere: what is passed on, and what is said where a package is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from hwnas.errors import ConfigError
from hwnas.supernet.training.curves import Curve
from hwnas.supernet.training.trackers import open_trackers


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_names_the_extra(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with (
        pytest.raises(ConfigError, match=rf"not installed .*pip install 'hwnas\[{name}\]'"),
        open_trackers([name], tmp_path, {}),
    ):
        pass


def test_an_unknown_tracker_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="tracker comet: expected tensorboard, wandb, mlflow"),
        open_trackers(["comet"], tmp_path, {}),
    ):
        pass


def test_tensorboard_gets_every_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = MagicMock()
    board = SimpleNamespace(SummaryWriter=lambda folder: writer)
    write(tmp_path, monkeypatch, "tensorboard", {"torch.utils.tensorboard": board})
    calls = [call.args for call in writer.add_scalar.call_args_list]
    assert calls == [("t2/loss@256", 2.0, 5), ("t2/val_iou", 0.5, 5)]
    writer.close.assert_called_once()


def test_wandb_gets_every_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = MagicMock()
    write(tmp_path, monkeypatch, "wandb", {"wandb": SimpleNamespace(init=lambda **_: run)})
    run.log.assert_called_once_with({"t2/step": 5, "t2/loss@256": 2.0, "t2/val_iou": 0.5})
    run.finish.assert_called_once()


def test_mlflow_gets_every_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = MagicMock()
    tracking = SimpleNamespace(MlflowClient=lambda: client)
    write(tmp_path, monkeypatch, "mlflow", {"mlflow": SimpleNamespace(tracking=tracking)})
    assert [call.args[1:] for call in client.log_metric.call_args_list] == [
        ("t2/loss/256", 2.0),
        ("t2/val_iou", 0.5),
    ]
    client.set_terminated.assert_called_once()


def test_a_server_that_is_not_there_gives_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"tracker wandb: cannot be opened \(no network\)"):
        write(tmp_path, monkeypatch, "wandb", {"wandb": SimpleNamespace(init=fail)})


def test_a_server_that_goes_away_does_not_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = MagicMock(log=fail)
    write(tmp_path, monkeypatch, "wandb", {"wandb": SimpleNamespace(init=lambda **_: run)})
    assert "no more curves there (no network)" in caplog.text


def fail(*_: object, **__: object) -> None:
    raise OSError("no network")


def write(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, modules: dict[str, Any]
) -> None:
    """Log two steps and a validation with a stand-in for the package."""
    for module, stand_in in {name: SimpleNamespace(), **modules}.items():
        monkeypatch.setitem(sys.modules, module, stand_in)
    with open_trackers([name, name], folder, {"seed": 0}) as trackers:
        curve = Curve(folder / "log.jsonl", "t2", trackers)
        curve.add({"loss@256": 1.0})
        curve.add({"loss@256": 3.0})
        curve.write(5, 1.0, {"val_iou": 0.5})
    assert (folder / "log.jsonl").read_text().count("\n") == 1
