"""TVM on the machine at hand."""

from __future__ import annotations

from pathlib import Path

from hwnas.device import DeviceProfile
from hwnas.measure.runners.spawned import Limits, SpawnedRunner

__all__ = ["LocalRunner"]


class LocalRunner(SpawnedRunner):
    """Compiles with TVM and runs on the machine that this runs on.

    Args:
        device: Whose target, protocol and fingerprint hold.
        cache: Folder of built kernels, shared by all runs; None: none are kept.
        limits: How long the worker may be silent.
    """

    def __init__(
        self, device: DeviceProfile, cache: Path | None = None, *, limits: Limits | None = None
    ) -> None:
        arguments = {"device": device.to_dict(), "cache": None if cache is None else str(cache)}
        bench = "hwnas.measure.runners.tvm_bench:TvmBench"
        super().__init__("tvm", device, bench, arguments, limits=limits)
