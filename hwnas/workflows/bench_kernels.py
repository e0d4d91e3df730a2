"""Our kernels against those of PyTorch and ONNX Runtime, side by side on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hwnas.device import host_profile
from hwnas.measure.kernel import Kernel

if TYPE_CHECKING:
    from hwnas.measure.runners.bench import Bench, Ready

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
    from hwnas.measure.runners.engines import all_engines

    chosen = [Kernel.from_key(key) for key in kernels]
    engines = all_engines({**host_profile().to_dict(), "threads": 1}, cache)
    return [_row(kernel, engines, rounds, seconds) for kernel in chosen]


def _row(kernel: Kernel, engines: dict[str, Bench], rounds: int, seconds: float) -> Row:
    from hwnas.measure.runners.bench import Unsupported
    from hwnas.measure.runners.engines import take_turns

    with ExitStack() as stack:
        ready: dict[str, Ready] = {}
        for name, engine in engines.items():
            try:
                ready[name] = stack.enter_context(engine.ready(kernel))
            except Unsupported:
                continue
        best = take_turns(ready, rounds, seconds)
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
