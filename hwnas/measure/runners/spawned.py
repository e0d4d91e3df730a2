"""A runner whose work is done by a child process, which may crash or hang as it likes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from hwnas.device import DeviceProfile
from hwnas.errors import DeviceError
from hwnas.measure.kernel import Kernel
from hwnas.measure.measurement import Measurement
from hwnas.measure.runners.child import Child, ChildDied, ChildHangs
from hwnas.measure.runners.seam import Cause, Network, Timeable, named, to_json
from hwnas.measure.samples import Rules
from hwnas.records.closing import Closing

__all__ = ["Limits", "SpawnedRunner"]

_WORKER: Final = "hwnas.measure.runners.worker"


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds until a silent worker is killed: while it starts, builds, or runs one session.

    Attributes:
        budget_s: After this time no further session of one subject starts.
    """

    start_s: float = 120.0
    build_s: float = 300.0
    run_s: float = 120.0
    budget_s: float = 10.0


class SpawnedRunner(Closing):
    """Keeps one worker process, and replaces it when it died or had to be killed.

    Args:
        name: What the engine is called in measurements.
        device: Whose protocol and fingerprint hold.
        bench: `module:Class` that the worker opens; see `hwnas.measure.runners.bench`.
        arguments: The JSON values that it is constructed with.
        limits: How long it may be silent.
        environment: Variables for the worker, on top of the number of threads.
    """

    def __init__(
        self,
        name: str,
        device: DeviceProfile,
        bench: str,
        arguments: Mapping[str, Any],
        *,
        limits: Limits | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._name, self._device, self._limits = name, device, limits or Limits()
        rules = Rules.of(device.protocol, budget_s=self._limits.budget_s)
        self._config = {"bench": bench, "arguments": dict(arguments), "rules": asdict(rules)}
        self._environment = _threads(device.threads or 1) | dict(environment or {})
        self._child: Child | None = None
        self._version: str | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        """The engine's own version; starts the worker to know it.

        Raises:
            DeviceError: the worker cannot start.
        """
        if self._version is None:
            self._started()
        assert self._version is not None
        return self._version

    @property
    def fingerprint(self) -> str:
        return self._device.fingerprint

    def time(self, subject: Timeable) -> Measurement:
        """Time `subject`; what goes wrong with it is in the measurement.

        Raises:
            DeviceError: no worker can start.
        """
        subject = named(subject)
        child = self._started()
        try:
            return self._measured(subject, self._asked(child, subject))
        except ChildHangs as error:
            self._child = None
            return self._failed(subject, f"killed while {error}", "timeout")
        except ChildDied as error:
            self._child = None
            return self._failed(subject, str(error), "crash")
        except BaseException:
            self._drop()  # Ctrl-C in the middle: its next line would be this subject's, not ours
            raise

    def close(self) -> None:
        """End the worker; the next `time` starts another."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def _started(self) -> Child:
        if self._child is not None:
            return self._child
        child = Child(_WORKER, self._environment)
        try:
            child.say(self._config)
            answer = child.hear(self._limits.start_s)
        except (ChildDied, ChildHangs) as error:
            raise DeviceError(f"the {self._name} runner does not start: {error}") from error
        except BaseException:
            child.kill()
            raise
        if "broken" in answer:
            child.end()
            raise DeviceError(f"the {self._name} runner does not start: {answer['broken']}")
        self._version, self._child = answer["ready"], child
        return child

    def _asked(self, child: Child, subject: Kernel | Network) -> dict[str, Any]:
        """Hand over a subject; return the last line of the answer."""
        child.say(to_json(subject))
        at = "building"
        while True:
            limit = self._limits.build_s if at == "building" else self._limits.run_s
            try:
                answer = child.hear(limit)
            except ChildHangs as error:
                raise ChildHangs(f"{at}: {error}") from error
            if "at" not in answer:
                return answer
            at = answer["at"]

    def _measured(self, subject: Kernel | Network, answer: Mapping[str, Any]) -> Measurement:
        if "failed" in answer:
            return self._failed(subject, answer["failed"], answer["cause"])
        timing = answer["timing"]
        return Measurement(
            **self._who(subject),
            status="noisy" if timing["message"] else "ok",
            value_ms=timing["value_ms"],
            repeats_ms=tuple(timing["repeats_ms"]),
            reference_ms=timing["reference_ms"],
            clean=timing["clean"],
            message=timing["message"],
            details={
                **answer["details"],
                "sessions_ms": timing["sessions_ms"],
                "clock_policy": self._device.protocol.clock_policy,
            },
        )

    def _failed(self, subject: Kernel | Network, message: str, cause: Cause) -> Measurement:
        details: dict[str, Any] = {"cause": cause}
        if cause == "connection":
            details["lost"] = True
        return Measurement(
            **self._who(subject), status="failed", value_ms=None, message=message, details=details
        )

    def _who(self, subject: Kernel | Network) -> dict[str, Any]:
        return {
            "subject": "kernel" if isinstance(subject, Kernel) else "subnet",
            "key": subject.key,
            "fingerprint": self.fingerprint,
            "runner": f"{self._name} {self.version}",
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def _drop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None


def _threads(count: int) -> dict[str, str]:
    names = ("TVM_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return dict.fromkeys(names, str(count))
