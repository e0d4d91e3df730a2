"""Our kernels against those of PyTorch and ONNX Runtime, side by side on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hwnas.errors import DeviceError
from hwnas.measure.kernel import Kernel

if TYPE_CHECKING:
    from hwnas.measure.runners.bench import Bench, Ready
    from hwnas.measure.timing import Sample

__all__ = ["KERNELS", "bench_kernels"]

KERNELS: Final = (
    "linear-1024x192x576-fp32-w32a32",
    "linear-1024x192x576-int8-w8a8",
    "linear-1024x192x576-int8-w4a8",
    "linear-1024x192x576-int8-w2a8",
    "linear-196x768x2304-fp32-w32a32",
    "linear-196x768x2304-int8-w8a8",
    "linear-196x768x2304-int8-w4a8",
    "linear-7x256x2048-fp32-w32a32",
    "linear-7x256x2048-int8-w4a8",
    "attention-16x3x8x64-fp32-w32a32",
    "attention-16x3x8x64-int8-w8a8",
    "attention-1x3x32x64-fp32-w32a32",
    "attention-1x3x32x64-int8-w8a8",
    "attention-4x12x14x64-fp32-w32a32",
    "attention-4x12x14x64-int8-w8a8",
    "cross_attention-8x1024x7x16-fp32-w32a32",
    "conv-3x192x16x16x1x32-int8-w8a8",
    "conv-256x256x3x1x1x32-fp32-w32a32",
    "conv-256x256x3x1x1x32-int8-w8a8",
    "conv_transpose-256x64x2x2x1x32-fp32-w32a32",
    "dwconv-240x240x5x1x240x28-fp32-w32a32",
    "norm-1024x192-fp32-w32a32",
    "gelu-786432-fp32-w32a32",
)
"""Kernels that carry the time of the shipped spaces, in fp32 and in integers."""

Row = dict[str, object]


def bench_kernels(
    kernels: Sequence[str] = KERNELS,
    *,
    rounds: int = 20,
    seconds: float = 3.0,
    cache: Path | None = None,
) -> list[Row]:
    """Milliseconds of one call in each engine, and our time over the best library's.

    One thread. All engines take turns in one process; the least processor time of at most `rounds`
    rounds counts (`seconds` for a kernel, but at least five rounds): a disturbance only adds time.
    Weights of small kernels rotate, so that they come from memory as in a network. An engine that
    lacks a kernel has no time; one that lacks the integer arithmetic runs another and says so in
    the column `library ran`.

    Raises:
        DeviceError: a key is no kernel, or TVM, onnxruntime or torch is missing.
    """
    chosen = [Kernel.from_key(key) for key in kernels]
    engines = _engines(cache)
    return [_row(kernel, engines, rounds, seconds) for kernel in chosen]


def _engines(cache: Path | None) -> dict[str, Bench]:
    """Open every engine with one thread."""
    from hwnas.device import host_profile

    device = {**host_profile().to_dict(), "threads": 1}
    try:
        import tvm

        from hwnas.measure.runners.onnx_bench import OnnxBench
        from hwnas.measure.runners.torch_bench import TorchBench
        from hwnas.measure.runners.tvm_bench import TvmBench

        tvm.get_global_func("runtime.config_threadpool")(1, 1)
        return {
            "ours": TvmBench(device, None if cache is None else str(cache)),
            "onnxruntime": OnnxBench(device),
            "torch": TorchBench(device, "cpu"),
        }
    except ImportError as error:
        raise DeviceError(
            f"comparing kernels needs {error.name}, which is not installed: "
            "pip install 'hwnas[tvm,onnx]' onnxruntime"
        ) from error


def _row(kernel: Kernel, engines: dict[str, Bench], rounds: int, seconds: float) -> Row:
    from hwnas.measure.runners.bench import Unsupported

    with ExitStack() as stack:
        ready: dict[str, Ready] = {}
        for name, engine in engines.items():
            try:
                ready[name] = stack.enter_context(engine.ready(kernel))
            except Unsupported:
                continue
        best = _take_turns(ready, rounds, seconds)
        libraries = {name: ms for name, ms in best.items() if name != "ours"}
        fastest = min(libraries, key=libraries.__getitem__, default=None)
        ran = ready[fastest].details if fastest else {}
    return {
        "kernel": kernel.key,
        **{f"{name} ms": best.get(name) for name in engines},
        "ours / best library": None if fastest is None else best["ours"] / libraries[fastest],
        "best library": fastest,
        "library ran": ", ".join(ran.get("ran") or ran.get("operators") or []),
    }


def _ms(sample: Sample) -> float:
    return sample.wall_ms if sample.cpu_ms is None else sample.cpu_ms


def _take_turns(ready: dict[str, Ready], rounds: int, seconds: float) -> dict[str, float]:
    import time

    best = dict.fromkeys(ready, float("inf"))
    for each in ready.values():
        each.timed()  # a first call that does not count
    end = time.monotonic() + seconds
    for done in range(rounds):
        for name, each in ready.items():
            best[name] = min(best[name], *(_ms(sample) for sample in each.timed()))
        if done >= 4 and time.monotonic() > end:
            break
    return best
