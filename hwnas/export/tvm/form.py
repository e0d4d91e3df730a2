"""The TVM form of a deploy folder: the module in its subfolder, opened again where it can run."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas.device.host import is_this_machine
from hwnas.errors import ConfigError, ExportError

if TYPE_CHECKING:
    from hwnas.device import DeviceProfile
    from hwnas.export.run import Segmenter
    from hwnas.measure.builder import Builder
    from hwnas.supernet.subnet import Subnet

__all__ = ["FOLDER", "open_tvm", "save_tvm", "tvm_builder"]

FOLDER = "tvm"


def tvm_builder(device: DeviceProfile | None) -> Builder:
    """Return what compiles for a device.

    Raises:
        ConfigError: no device was named, or TVM is not installed.
        DeviceError: the device names no TVM target.
    """
    if device is None:
        raise ConfigError("--format tvm: a module is compiled for a device; pass --device NAME")
    if find_spec("tvm") is None:
        raise ConfigError("--format tvm: TVM is not installed; pip install 'hwnas[tvm]'")
    from hwnas.measure.builder import Builder

    return Builder(device)


def save_tvm(subnet: Subnet, sam: Any, folder: Path, builder: Builder) -> tuple[str, ...]:
    """Write the module into `folder/tvm`; what the card has to say of it."""
    from hwnas.export.tvm.module import export_tvm

    written = export_tvm(folder / FOLDER, subnet, builder, sam=sam)
    calls = {name: len(bound.program.calls) for name, bound in written.programs.items()}
    kernels = ", ".join(f"{count} in {name}" for name, count in calls.items())
    return (
        f"TVM: compiled for {builder.device.key} ({builder.target}), calls of kernels: {kernels}.",
    )


def open_tvm(folder: Path, device: DeviceProfile) -> Segmenter | None:
    """What segments pictures with the module of a deploy folder; None on another machine.

    Raises:
        ExportError: it is for this machine and does not run.
    """
    if not is_this_machine(device):
        return None
    from hwnas.export.tvm.runner import ModuleError
    from hwnas.export.tvm.segmenter import TvmSegmenter

    try:
        return TvmSegmenter(folder / FOLDER)
    except ModuleError as error:
        raise ExportError(f"the TVM module does not run on this machine: {error}") from error
