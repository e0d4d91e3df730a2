"""Tuning of kernels on the machine at hand."""

from __future__ import annotations

from pathlib import Path

from hwnas.device import DeviceProfile
from hwnas.measure.runners.spawned import Limits, SpawnedRunner

__all__ = ["Tuner"]

_TRY_S = 20.0


class Tuner(SpawnedRunner):
    """Tunes kernels with TVM, by `time`; the schedules it finds are in the cache.

    Its measurements say whether tuning went well, with the schedule in their details; they are of
    no use as times, because the candidates were chosen by being fast.

    Args:
        device: Whose target and protocol hold.
        cache: Folder of compiled kernels.
        tries: Candidates of a kernel at most.
    """

    def __init__(self, device: DeviceProfile, cache: Path, tries: int) -> None:
        arguments = {"device": device.to_dict(), "cache": str(cache), "tries": tries}
        bench = "hwnas.measure.runners.tune_bench:TuneBench"
        limits = Limits(build_s=300.0 + _TRY_S * tries, budget_s=0.1)
        super().__init__("tvm-tuning", device, bench, arguments, limits=limits)
