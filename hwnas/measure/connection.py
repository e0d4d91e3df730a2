"""From a configuration to a runner that times kernels and networks on the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.config import MeasuringConfig
from hwnas.device import DeviceProfile
from hwnas.device.host import is_this_machine
from hwnas.device.machine import detect_machine
from hwnas.errors import DeviceError
from hwnas.measure.store import MeasurementStore, default_store_path

if TYPE_CHECKING:
    from hwnas.measure.runners.seam import Runner

__all__ = ["Connected", "check_reachable", "connect", "kernel_cache", "open_store"]


@dataclass(frozen=True)
class Connected:
    """A runner that is ready, and its name and version as results carry them."""

    runner: Runner
    label: str


def open_store(measuring: MeasuringConfig, device: DeviceProfile) -> MeasurementStore:
    """The store of a device: the one named, else `./measurements/<device id>.sqlite`.

    Raises:
        DeviceError: it cannot be opened.
    """
    return MeasurementStore(measuring.store or default_store_path(device.id))


def check_reachable(measuring: MeasuringConfig, device: DeviceProfile, *, to: str) -> None:
    """Refuse to measure a device here that is not this machine; `to` says what for.

    A CPU is this machine if it is `host` or its profile names this processor. Whether a GPU is
    here is left to the runner on torch to find out.

    Raises:
        DeviceError: it is not, and no way to reach it was given.
    """
    if measuring.remote or is_this_machine(device):
        return
    if device.kind == "gpu" and measuring.runner == "torch":
        return
    raise DeviceError(
        f"{to}: {device.key} is not this machine ({detect_machine().processor}); give --rpc "
        "HOST:PORT of a TVM RPC server on the device, or --tracker HOST:PORT --key NAME; "
        "--device host is this machine"
    )


@contextmanager
def connect(measuring: MeasuringConfig, device: DeviceProfile) -> Iterator[Connected]:
    """Open the runner and close it in the end; compiled kernels are kept beside the store.

    Raises:
        DeviceError: the device is not this machine, cannot be reached, or the runner is not
            installed.
    """
    check_reachable(measuring, device, to="measuring")
    runner = _runner(measuring, device)
    try:
        yield Connected(runner, f"{runner.name} {runner.version}")
    finally:
        runner.close()


def kernel_cache(measuring: MeasuringConfig, device: DeviceProfile) -> Path:
    """The folder of compiled kernels and their tuned schedules, beside the store."""
    store = Path(measuring.store or default_store_path(device.id))
    return store.absolute().parent / "kernels"


def _runner(measuring: MeasuringConfig, device: DeviceProfile) -> Runner:
    cache = kernel_cache(measuring, device)
    if measuring.address is not None:
        from hwnas.measure.runners.rpc import RpcRunner

        return RpcRunner(device, *measuring.address, measuring.key, cache=cache)
    if measuring.runner == "onnxruntime":
        from hwnas.measure.runners.onnx import OnnxRunner

        return OnnxRunner(device)
    if measuring.runner == "torch":
        from hwnas.measure.runners.torch import TorchRunner

        return TorchRunner(device)
    from hwnas.measure.runners.local import LocalRunner

    return LocalRunner(device, cache)
