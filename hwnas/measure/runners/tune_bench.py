"""Tunes a kernel in this process, then times it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from hwnas.errors import DeviceError
from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels.schedule import DEFAULT, Schedule
from hwnas.measure.runners.bench import Ready, Unsupported
from hwnas.measure.runners.engines import take_turns
from hwnas.measure.runners.seam import Network
from hwnas.measure.runners.tvm_bench import TvmBench
from hwnas.measure.tuned import FILE, Tuned, add_tuned, read_tuned
from hwnas.measure.tuning import find_schedule, is_tunable

__all__ = ["TuneBench"]

_ROUNDS: Final = 12
_SECONDS: Final = 1.0


class TuneBench:
    """Finds the fastest schedule of a kernel and writes it into the cache of compiled kernels.

    What the cache knows of a kernel, after as many tries or more, is not looked for again. Every
    candidate is built as any kernel, so its numbers are checked; one with wrong numbers is passed
    over.

    Args:
        device: `DeviceProfile.to_dict()`.
        cache: Folder of compiled kernels.
        tries: Candidates of a kernel at most.
    """

    def __init__(self, device: Mapping[str, Any], cache: str, tries: int) -> None:
        self._bench = TvmBench(device, None)
        self.version = self._bench.version
        self._path, self._tries = Path(cache) / FILE, tries
        self._target = str(self._bench.builder.target)

    @contextmanager
    def ready(self, subject: Kernel | Network) -> Iterator[Ready]:
        """Tune a kernel; `details` say what came of it. See `Bench`.

        Raises:
            Unsupported: the kernel has nothing to choose.
            DeviceError: not even the default can be built.
        """
        if isinstance(subject, Network) or not is_tunable(subject):
            raise Unsupported(f"{subject.key} has no schedule to choose")
        found = read_tuned(self._path, self._target).get(subject)
        if found is None or found.tries < self._tries:
            found = self._tuned(subject)
            add_tuned(self._path, self._target, found)
        bench = self._bench.with_schedules({subject: found.schedule})
        with bench.ready(subject) as ready:
            yield Ready(ready.timed, ready.reference, {**ready.details, **found.to_dict()})

    def _tuned(self, kernel: Kernel) -> Tuned:
        with self._bench.ready(kernel) as default:
            opened: dict[Schedule, Ready] = {DEFAULT: default}

            def compare(best: Schedule, other: Schedule) -> tuple[float, float] | None:
                if other not in opened:
                    try:
                        opened[other] = self._opened(kernel, other)
                    except DeviceError:
                        return None
                times = take_turns({s: opened[s] for s in (best, other)}, _ROUNDS, _SECONDS)
                for schedule in opened.keys() - {DEFAULT, best, other}:
                    del opened[schedule]
                return times[best], times[other]

            found = find_schedule(kernel, self._bench.builder.isa, self._tries, compare)
        return Tuned(kernel, found.schedule, found.ms, found.default_ms, self._tries)

    def _opened(self, kernel: Kernel, schedule: Schedule) -> Ready:
        # What a TVM engine makes ready lives as long as it is held; there is nothing to close.
        with self._bench.with_schedules({kernel: schedule}).ready(kernel) as ready:
            return ready
