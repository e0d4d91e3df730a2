"""Engines in one process that take turns, so that their times compare."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hwnas.errors import DeviceError

if TYPE_CHECKING:
    from hwnas.measure.runners.bench import Bench, Ready
    from hwnas.measure.samples import Sample

__all__ = ["all_engines", "our_engine", "take_turns"]

_LEAST_ROUNDS = 5

Name = TypeVar("Name")


def our_engine(device: Mapping[str, Any], cache: Path | None) -> Bench:
    """Open TVM on this machine with as many threads as the device, `DeviceProfile.to_dict()`, has.

    Raises:
        DeviceError: TVM is missing, or the device's clock is not as its profile wants it.
    """
    try:
        import tvm

        from hwnas.measure.runners.tvm_bench import TvmBench
    except ImportError as error:
        raise _missing(error) from error
    tvm.get_global_func("runtime.config_threadpool")(1, device.get("threads") or 1)
    return TvmBench(device, None if cache is None else str(cache))


def all_engines(device: Mapping[str, Any], cache: Path | None) -> dict[str, Bench]:
    """Open `ours`, `onnxruntime` and `torch`; arguments and errors as for `our_engine`."""
    ours = our_engine(device, cache)
    try:
        from hwnas.measure.runners.onnx_bench import OnnxBench
        from hwnas.measure.runners.torch_bench import TorchBench

        return {"ours": ours, "onnxruntime": OnnxBench(device), "torch": TorchBench(device, "cpu")}
    except ImportError as error:
        raise _missing(error) from error


def take_turns(ready: Mapping[Name, Ready], rounds: int, seconds: float) -> dict[Name, float]:
    """Least milliseconds of one call of each; a disturbance only adds time.

    At most `rounds` rounds, at least five, and no further one after `seconds`. Processor time
    counts where it is known.
    """
    best = dict.fromkeys(ready, float("inf"))
    for each in ready.values():
        each.timed()  # a first call that does not count
    end = time.monotonic() + seconds
    for done in range(rounds):
        for name, each in ready.items():
            best[name] = min(best[name], *(_ms(sample) for sample in each.timed()))
        if done + 1 >= _LEAST_ROUNDS and time.monotonic() > end:
            break
    return best


def _ms(sample: Sample) -> float:
    return sample.wall_ms if sample.cpu_ms is None else sample.cpu_ms


def _missing(error: ImportError) -> DeviceError:
    return DeviceError(
        f"comparing kernels needs {error.name}, which is not installed: "
        "pip install 'hwnas[tvm,onnx]'"
    )
