"""An engine that misbehaves on request; the real process around it is what is tested."""

import os
import signal
import time
from contextlib import contextmanager

from hwnas.errors import DeviceError
from hwnas.measure.runners.bench import ConnectionLost, Ready, Unsupported
from hwnas.measure.samples import Sample


class FaultyBench:
    """What it does is the first size of the kernel's shape."""

    version = "1.0"

    def __init__(self, broken=False):
        if broken:
            raise DeviceError("no engine here; install one")
        self._losses = 0

    @contextmanager
    def ready(self, subject):
        kind = subject.kind
        if kind == "fine":
            os.write(1, b"chatter that must not be taken for an answer\n")
        if kind == "unsupported":
            raise Unsupported("no such kernel here")
        if kind == "lost":
            raise ConnectionLost("the board is gone")
        if kind == "lost_once" and self._losses == 0:
            self._losses += 1
            raise ConnectionLost("the board is restarted")
        if kind == "wrong":
            raise DeviceError("differs from torch by 0.5")
        if kind == "bug":
            raise ZeroDivisionError("division by zero")
        if kind == "build_hang":
            time.sleep(600)
        yield Ready(lambda: self._run(kind), None, {"ran": kind})

    def _run(self, kind):
        if kind == "hang":
            time.sleep(600)
        if kind == "segfault":
            os.write(2, b"about to crash\n")
            os.kill(os.getpid(), signal.SIGSEGV)
        if kind == "exit":
            os._exit(7)
        return [Sample(2.0, 2.0)]
