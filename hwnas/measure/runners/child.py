"""A child process that answers in JSON lines, and may be killed at any time."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

__all__ = ["Child", "ChildDied", "ChildHangs"]

_ROOT: Final = Path(__file__).resolve().parents[3]
_LAST_LINES: Final = 3
_END_S: Final = 5.0


class ChildDied(Exception):
    """It ended by itself; the message has its last words since it was told something."""


class ChildHangs(Exception):
    """It said nothing for the time allowed; it is killed."""


class Child:
    """One process of `python -m module`, started at once.

    Args:
        module: What it runs.
        environment: Variables on top of this process' own.
    """

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        given = {**os.environ, **environment}
        path = os.pathsep.join(filter(None, (str(_ROOT), given.get("PYTHONPATH"))))
        # The file has no name, so nobody has to remove it.
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env=given | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is the parent's business; compilers are killed with it
        )
        self._told = 0
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def say(self, fields: Mapping[str, Any]) -> None:
        """Send a line.

        Raises:
            ChildDied: nobody is there to read it.
        """
        assert self._process.stdin is not None
        self._told = os.fstat(self._errors.fileno()).st_size
        try:
            self._process.stdin.write(json.dumps(fields) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._died() from error

    def hear(self, timeout_s: float) -> dict[str, Any]:
        """Wait for the next line.

        Raises:
            ChildDied: it ended instead; it is gone afterwards.
            ChildHangs: it said nothing within `timeout_s`; it is killed.
        """
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            self.kill()
            raise ChildHangs(f"no answer within {timeout_s:g} s") from None
        if line is None:
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """Close its input, so that it ends by itself; kill it if it does not."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(_END_S)
        self.kill()

    def kill(self) -> None:
        """Kill it with everything that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._errors):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)

    def _died(self) -> ChildDied:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        code, said = self._process.returncode, self._last_words()
        self.kill()
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return ChildDied(f"the process died of {signal.Signals(-code).name}{said}")
        return ChildDied(f"the process ended with code {code}{said}")

    def _last_words(self) -> str:
        size = os.fstat(self._errors.fileno()).st_size - self._told
        said = os.pread(self._errors.fileno(), size, self._told)
        lines = said.decode("utf-8", "replace").strip().splitlines()
        return f": {' | '.join(lines[-_LAST_LINES:])}" if lines else ""
