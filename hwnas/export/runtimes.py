"""A network in each runtime of this machine: PyTorch, ONNX Runtime, OpenVINO, our TVM kernels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from hwnas.errors import ConfigError
from hwnas.export.run import Segmenter
from hwnas.supernet.subnet import Subnet

if TYPE_CHECKING:
    from hwnas.measure.builder import Builder

__all__ = [
    "RUNTIMES",
    "Runnable",
    "Runtime",
    "chosen_runtimes",
    "runnable",
    "runtime_version",
    "torch_threads",
]

Runtime = Literal["torch", "onnxruntime", "openvino", "tvm"]
RUNTIMES: dict[Runtime, str] = {
    "torch": "torch", "onnxruntime": "onnxruntime", "openvino": "openvino", "tvm": "apache-tvm",
}  # fmt: skip


@dataclass(frozen=True)
class Runnable:
    """A network opened in a runtime; `encoder_bytes` are those of its encoder's file or files."""

    runtime: Runtime
    segmenter: Segmenter
    encoder_bytes: int


def chosen_runtimes(names: Sequence[str] | None) -> tuple[Runtime, ...]:
    """The runtimes of these names; without names those that are installed.

    Raises:
        ConfigError: an unknown name, or a runtime that is not installed.
    """
    unknown = [name for name in names or () if name not in RUNTIMES]
    if unknown or (names is not None and not names):
        raise ConfigError(
            f"runtimes {', '.join(unknown) or 'none'}: expected some of {', '.join(RUNTIMES)}"
        )
    installed = [name for name in RUNTIMES if _is_installed(name)]
    missing = [name for name in names or () if name not in installed]
    if missing:
        extras = {"onnxruntime": "onnx", "openvino": "openvino", "tvm": "tvm"}
        raise ConfigError(
            f"{', '.join(missing)}: not installed; pip install "
            f"'hwnas[{','.join(extras[name] for name in missing)}]'"
        )
    return tuple(name for name in RUNTIMES if name in (installed if names is None else names))


def _is_installed(name: Runtime) -> bool:
    """Whether a runtime, and the package that writes its files, is there."""
    writes = name not in ("onnxruntime", "openvino") or find_spec("onnx") is not None
    return writes and runtime_version(name) is not None


def runtime_version(name: Runtime) -> str | None:
    """The installed version of a runtime."""
    try:
        return version(RUNTIMES[name])
    except PackageNotFoundError:
        return None


def runnable(
    runtime: Runtime, subnet: Subnet, sam: Any, folder: Path, *, threads: int,
    builder: Builder | None = None,
) -> Runnable:  # fmt: skip
    """Write a network into the empty `folder` as its runtime wants it, and open it.

    Args:
        runtime: `torch` runs the subnet as it is, with the threads of the process.
        subnet: The encoder.
        sam: The model whose prompt encoder and mask decoder go with it.
        folder: Where.
        threads: Of the other runtimes.
        builder: For `tvm`.

    Raises:
        ConfigError: a layer cannot be exported.
        DeviceError: the builder's device cannot run it.
    """
    if runtime == "torch":
        from hwnas.export.torch_segmenter import TorchSegmenter

        held = sum(value.numel() * value.element_size() for value in subnet.buffers())
        return Runnable(runtime, TorchSegmenter(subnet, sam, subnet.plan.resolution), held)
    if runtime == "tvm":
        return _in_tvm(subnet, sam, folder, threads, builder)
    from hwnas.export.onnx_form import save_onnx

    # OpenVINO multiplies integers where a DequantizeLinear follows each QuantizeLinear at once
    style = "tensorrt" if runtime == "openvino" else "onnxruntime"
    encoder, _ = save_onnx(subnet, sam, folder, style=style)  # type: ignore[arg-type]
    opened = _opener(runtime)(folder, subnet.plan.resolution, threads=threads)
    return Runnable(runtime, opened, encoder.stat().st_size)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Give torch so many threads, and back what it had."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _opener(runtime: Runtime) -> type[Segmenter]:
    if runtime == "onnxruntime":
        return Segmenter
    from hwnas.export.openvino_segmenter import OpenVinoSegmenter

    return OpenVinoSegmenter


def _in_tvm(
    subnet: Subnet, sam: Any, folder: Path, threads: int, builder: Builder | None
) -> Runnable:
    from hwnas.export.tvm.module import export_tvm
    from hwnas.export.tvm.segmenter import TvmSegmenter

    if builder is None:
        raise ConfigError("tvm: a module is compiled for a device; give its builder")
    written = export_tvm(folder / "tvm", subnet, builder, sam=sam)
    constants = written.programs["encoder"].values.values()
    held = sum(value.nbytes for value in constants) + written.file_bytes["encoder.so"]
    return Runnable("tvm", TvmSegmenter(folder / "tvm", threads=threads), held)
