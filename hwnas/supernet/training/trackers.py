"""Curves in TensorBoard, Weights & Biases or MLflow, each an extra of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from hwnas.errors import ConfigError, HwnasError
from hwnas.supernet.training.curves import Tracker

__all__ = ["TRACKERS", "open_trackers"]


class _TensorBoard:
    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        _needed("tensorboard", "tensorboard")
        writer = import_module("torch.utils.tensorboard").SummaryWriter
        self._writer = writer(str(folder / "tensorboard"))

    def log(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        for key, value in figures.items():
            self._writer.add_scalar(f"{stage}/{key}", value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        wandb = _needed("wandb", "wandb")
        self._run = wandb.init(
            project="hwnas", name=folder.name, dir=str(folder), config=dict(config)
        )

    def log(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        # No step= here: a stage begins at 0 again, and wandb drops steps that go back.
        named = {f"{stage}/{key}": value for key, value in figures.items()}
        self._run.log({f"{stage}/step": step, **named})

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        mlflow = _needed("mlflow", "mlflow")
        self._client = mlflow.tracking.MlflowClient()
        named = self._client.get_experiment_by_name("hwnas")
        experiment = named.experiment_id if named else self._client.create_experiment("hwnas")
        run = self._client.create_run(experiment, run_name=folder.name)
        self._id = run.info.run_id
        for key, value in config.items():
            self._client.log_param(self._id, key, str(value)[:500])

    def log(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        for key, value in figures.items():
            # MLflow's names have no "@"; "loss@256" becomes "loss/256".
            name = f"{stage}/{key}".replace("@", "/")
            self._client.log_metric(self._id, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._id)


TRACKERS: dict[str, Callable[[Path, Mapping[str, Any]], Tracker]] = {
    "tensorboard": _TensorBoard,
    "wandb": _Wandb,
    "mlflow": _Mlflow,
}


@contextmanager
def open_trackers(
    names: Sequence[str], folder: Path, config: Mapping[str, Any]
) -> Iterator[list[Tracker]]:
    """Open trackers by name for the run in `folder`; TensorBoard's files lie there as well.

    Weights & Biases and MLflow find their servers as they always do, by their own settings.

    Raises:
        ConfigError: a name is unknown, its package is not installed or its server not there.
    """
    unknown = [name for name in names if name not in TRACKERS]
    if unknown:
        raise ConfigError(f"tracker {', '.join(unknown)}: expected {', '.join(TRACKERS)}")
    with ExitStack() as stack:
        opened: list[Tracker] = []
        for name in dict.fromkeys(names):
            tracker = _opened(name, folder, config)
            stack.callback(tracker.close)
            opened.append(tracker)
        yield opened


def _opened(name: str, folder: Path, config: Mapping[str, Any]) -> Tracker:
    try:
        return TRACKERS[name](folder, config)
    except HwnasError:
        raise
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(
            f"tracker {name}: cannot be opened ({reason}); see its own settings, or train without"
        ) from error


def _needed(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"tracker {extra}: the package {module} is not installed ({error}); "
            f"pip install 'hwnas[{extra}]'"
        ) from error
