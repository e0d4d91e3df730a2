"""Finding a TVM RPC server, directly or by a tracker, and waiting for one that comes back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from hwnas.measure.runners.bench import ConnectionLost

__all__ = ["Address", "connected"]

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 8.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a device is.

    Attributes:
        host: Name or number of the server, or of the tracker.
        port: Its port.
        key: The device's key at the tracker; None: host and port are the server's own.
        patience_s: How long a server that is not there is waited for.
    """

    host: str
    port: int
    key: str | None = None
    patience_s: float = 90.0

    def __str__(self) -> str:
        device = f", key {self.key}" if self.key else ""
        return f"{self.host}:{self.port}{device}"


def connected(address: Address) -> Any:
    """Return a `tvm.rpc.RPCSession`, asking again with growing pauses.

    Raises:
        ConnectionLost: nobody answered for as long as the address says.
    """
    end, pause = time.monotonic() + address.patience_s, _FIRST_PAUSE_S
    while True:
        try:
            return _asked(address)
        except Exception as error:  # TVM raises several kinds for what a socket does
            if time.monotonic() + pause > end:
                lines = str(error).strip().splitlines() or [type(error).__name__]
                raise ConnectionLost(
                    f"no device at {address} within {address.patience_s:g} s: {lines[-1]}; start "
                    "the server (python -m tvm.exec.rpc_server) there, then repeat the command"
                ) from error
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _asked(address: Address) -> Any:
    from tvm import rpc

    if address.key is None:
        return rpc.connect(address.host, address.port)
    tracker = rpc.connect_tracker(address.host, address.port)
    try:
        queues = tracker.summary()["queue_info"]
        if queues.get(address.key, {}).get("free", 0) < 1:
            keys = ", ".join(sorted(queues)) or "none"
            raise LookupError(f"the tracker has no free device {address.key!r}; keys: {keys}")
        return tracker.request(address.key, max_retry=1)
    finally:
        tracker.close()
