"""The doctor's look at measuring: a kernel compiled, run, timed, and sent over RPC and back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

from hwnas.calibration.noise import variation_pct
from hwnas.device import find
from hwnas.errors import DeviceError
from hwnas.measure.kernel import Kernel
from hwnas.measure.measurement import Measurement
from hwnas.measure.runners.local import LocalRunner
from hwnas.measure.runners.rpc import RpcRunner
from hwnas.measure.runners.spawned import Limits, SpawnedRunner

__all__ = ["Finding", "measuring"]

_KERNEL: Final = Kernel("linear", (64, 64, 64), "fp32", 32, 32)
_LIMITS: Final = Limits(start_s=60, build_s=60, run_s=30, budget_s=0.0)
_TIMINGS: Final = 5
_STEADY_PCT: Final = 5.0
_ANNOUNCED_S: Final = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report, as `hwnas.workflows.doctor.CheckResult`."""

    check: str
    level: Literal["ok", "warning"]
    message: str


def measuring() -> list[Finding]:
    """Compile a tiny kernel with TVM, time it some times, and time it through an RPC server.

    All in child processes with time-outs; below half a minute on an idle machine.
    """
    device = find("host")
    with LocalRunner(device, limits=_LIMITS) as runner:
        return [*_round_trip(runner), _over_rpc()]


def _round_trip(runner: SpawnedRunner) -> Iterator[Finding]:
    timings = []
    for _ in range(_TIMINGS):
        found = _timed(runner)
        if isinstance(found, str):
            yield Finding("tvm round trip", "warning", found)
            return
        timings.append(found.value_ms or 0.0)
    yield Finding(
        "tvm round trip", "ok",
        f"{_KERNEL.key} compiled, equal to torch, {min(timings):.3g} ms",
    )  # fmt: skip
    spread = variation_pct(timings)
    text = f"{_TIMINGS} timings vary by {spread:.1f} % (coefficient of variation)"
    if spread > _STEADY_PCT:
        text += f", above {_STEADY_PCT:g} %: other work disturbs it; measure on an idle machine"
    yield Finding("timing", "warning" if spread > _STEADY_PCT else "ok", text)


def _timed(runner: SpawnedRunner) -> Measurement | str:
    """Time the kernel; what went wrong as a sentence."""
    try:
        found = runner.time(_KERNEL)
    except DeviceError as error:
        return str(error)
    return found.message if found.status == "failed" else found


def _over_rpc() -> Finding:
    try:
        with (
            _server() as port,
            RpcRunner(find("host"), "127.0.0.1", port, limits=_LIMITS, patience_s=20) as runner,
        ):
            found = _timed(runner)
    except DeviceError as error:
        found = str(error)
    if isinstance(found, str):
        return Finding("rpc round trip", "warning", found)
    return Finding("rpc round trip", "ok", f"a server of this machine: {found.value_ms:.3g} ms")


@contextmanager
def _server() -> Iterator[int]:
    """Run TVM's RPC server at a free port of this machine.

    Raises:
        DeviceError: it does not start.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "tvm.exec.rpc_server", "--host", "127.0.0.1"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    ports: list[int] = []
    announced = threading.Event()
    reader = threading.Thread(target=_listen, args=(process, ports, announced), daemon=True)
    reader.start()
    try:
        announced.wait(_ANNOUNCED_S)
        if not ports:
            raise DeviceError(
                "TVM's RPC server does not start; try python -m tvm.exec.rpc_server to see why"
            )
        yield ports[0]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join()


def _listen(process: subprocess.Popen[str], ports: list[int], announced: threading.Event) -> None:
    """Read what the server says to the end; it names its port in `bind to HOST:PORT`."""
    assert process.stderr is not None
    with process.stderr as lines:
        for line in lines:
            _, found, place = line.partition("bind to ")
            if found:
                ports.append(int(place.strip().rpartition(":")[2]))
                announced.set()
    announced.set()
