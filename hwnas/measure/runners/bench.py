"""What a worker needs of an engine: make a subject ready, then run it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from hwnas.errors import DeviceError
from hwnas.measure.kernel import Kernel
from hwnas.measure.runners.seam import Network
from hwnas.measure.samples import Timed

__all__ = ["Bench", "ConnectionLost", "Ready", "Unsupported"]


class Unsupported(DeviceError):
    """The engine has no such kernel; another one may."""


class ConnectionLost(DeviceError):
    """The device went away; it says nothing about the subject."""


@dataclass(frozen=True)
class Ready:
    """A subject that can be run now.

    Attributes:
        timed: Runs it.
        reference: Runs the fixed kernel of this engine; None if it has none.
        details: Plain JSON for the measurement: what is really run.
    """

    timed: Timed
    reference: Timed | None
    details: Mapping[str, Any] = field(default_factory=dict)


class Bench(Protocol):
    """An engine in a worker process; constructed from the JSON values of its configuration."""

    @property
    def version(self) -> str: ...

    def ready(self, subject: Kernel | Network) -> AbstractContextManager[Ready]:
        """Build, load and fill a subject; leaving the context frees it.

        Raises:
            Unsupported: this engine cannot run it.
            ConnectionLost: the device does not answer (any more).
            DeviceError: it cannot be built, or computes wrong numbers.
        """
        ...
