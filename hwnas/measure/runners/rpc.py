"""TVM on another machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from hwnas.device import DeviceProfile
from hwnas.measure.runners.session import Address
from hwnas.measure.runners.spawned import Limits, SpawnedRunner

__all__ = ["RpcRunner"]


class RpcRunner(SpawnedRunner):
    """Compiles with TVM here and runs where a TVM RPC server is; CPU targets only.

    A server that goes away is waited for, and what it interrupted is timed again. `time_evaluator`
    knows wall times alone, so disturbed repeats are told by their distance from the others.

    Args:
        device: Whose target, protocol and fingerprint hold.
        host: Of the server; of the tracker if `key` is given.
        port: As `host`.
        key: The device's key at the tracker.
        cache: Folder of built kernels, shared by all runs; None: none are kept.
        limits: How long the worker may be silent.
        patience_s: How long to wait for a server that does not answer.
    """

    def __init__(
        self,
        device: DeviceProfile,
        host: str,
        port: int,
        key: str | None = None,
        *,
        cache: Path | None = None,
        limits: Limits | None = None,
        patience_s: float = 90.0,
    ) -> None:
        address = asdict(Address(host, port, key, patience_s))
        folder = None if cache is None else str(cache)
        arguments = {"device": device.to_dict(), "cache": folder, "address": address}
        bench = "hwnas.measure.runners.rpc_bench:RpcBench"
        super().__init__("tvm-rpc", device, bench, arguments, limits=limits)
