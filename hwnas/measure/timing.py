"""How a time is taken: repeats next to a fixed reference, disturbed ones rejected, sessions agreed.

On a machine that does other work the mean of some repeats says more about that work than about
the kernel. So each round runs the subject and a fixed reference; a repeat whose wall time is well
above its processor time was pre-empted and does not count; and rounds go on until two sessions
agree. `hwnas.calibration.noise` judges whole campaigns.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from hwnas.calibration.noise import outliers

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from hwnas.device.fields import MeasuringProtocol

__all__ = ["Rules", "Sample", "Timed", "Timing", "sampled", "take"]

_MAX_WALL_TO_CPU: Final = 1.1
_SLACK_MS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Sample:
    """Wall and processor time of one call, in ms.

    Attributes:
        cpu_ms: None where nobody can tell.
        times: How many calls were timed together; the times are the share of one.
    """

    wall_ms: float
    cpu_ms: float | None = None
    times: int = 1


Timed = Callable[[], Sequence[Sample]]
"""Runs something once or a few times and says how long each call took."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The device's protocol, and when to stop.

    Attributes:
        warmup: Calls before the first session that do not count.
        repeats: Repeats of one session.
        statistic: What a session's clean repeats are summed up as.
        agreement: Two sessions agree if their statistics differ by no more than this share.
        min_clean: Fewer clean repeats than this make the value noisy.
        budget_s: No session starts after this time; the first two always run.
        max_sessions: Nor after so many.
    """

    warmup: int = 2
    repeats: int = 20
    statistic: Literal["median", "minimum"] = "minimum"
    agreement: float = 0.03
    min_clean: int = 3
    budget_s: float = 10.0
    max_sessions: int = 20

    @classmethod
    def of(cls, protocol: MeasuringProtocol, *, budget_s: float = 10.0) -> Rules:
        """Take over a device profile's protocol."""
        return cls(
            protocol.warmup, protocol.repeats, protocol.statistic,
            min_clean=min(3, protocol.repeats), budget_s=budget_s,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Timing:
    """What came out; times in ms of one call.

    Attributes:
        value_ms: The statistic of the clean repeats of the sessions that agree; of all sessions
            where none agree.
        repeats_ms: Wall times of all sessions, in their order.
        reference_ms: The same statistic of the reference; None without one.
        clean: How many repeats were not disturbed.
        sessions_ms: The statistic of each session.
        message: Why the value is noisy; empty if it is not.
    """

    value_ms: float
    repeats_ms: tuple[float, ...]
    reference_ms: float | None
    clean: int
    sessions_ms: tuple[float, ...]
    message: str = ""

    @property
    def noisy(self) -> bool:
        return bool(self.message)


def take(
    subject: Timed,
    reference: Timed | None,
    rules: Rules,
    *,
    clock: Callable[[], float] = time.monotonic,
    progress: Callable[[], None] = lambda: None,
) -> Timing:
    """Time `subject` by `rules`; `progress` is called before the warm-up and every session."""
    progress()
    end = clock() + rules.budget_s
    for timed in filter(None, (subject, reference)):
        _run(timed, rules.warmup)
    subjects: list[_Session] = []
    references: list[_Session] = []
    while True:
        with _no_garbage_collection():
            own, other = _rounds(subject, reference, rules.repeats)
        subjects.append(_Session.of(own, rules))
        references.extend([_Session.of(other, rules)] if other else [])
        agreed = _agreeing([session.value_ms for session in subjects], rules.agreement)
        last = len(subjects) >= rules.max_sessions or (len(subjects) >= 2 and clock() >= end)
        if agreed is not None or last:
            return _summary(subjects, references, agreed, rules)
        progress()


def sampled(call: Callable[[], object], times: int = 1, *, cpu: bool = True) -> Timed:
    """Time a call that does the same work `times` times; a sample is its share.

    `cpu` must be off where threads wait by spinning: their processor time means nothing.
    """
    scale = 1e-6 / times

    def timed() -> Sequence[Sample]:
        busy, start = time.process_time_ns(), time.perf_counter_ns()
        call()
        wall = time.perf_counter_ns() - start
        busy = time.process_time_ns() - busy
        return (Sample(wall * scale, busy * scale if cpu else None, times),)

    return timed


@dataclass(frozen=True, slots=True)
class _Session:
    wall_ms: npt.NDArray[np.float64]
    cpu_ms: npt.NDArray[np.float64]
    clean: npt.NDArray[np.bool_]
    value_ms: float

    @classmethod
    def of(cls, samples: Sequence[Sample], rules: Rules) -> _Session:
        wall = np.array([sample.wall_ms for sample in samples])
        cpu = np.array([np.nan if s.cpu_ms is None else s.cpu_ms for s in samples])
        clean = _clean(wall, cpu, np.array([sample.times for sample in samples]))
        return cls(wall, cpu, clean, _value(wall, cpu, clean, rules))


def _clean(
    wall: npt.NDArray[np.float64], cpu: npt.NDArray[np.float64], times: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Keep what was not pre-empted, or where processor time is unknown what is no outlier."""
    if np.isnan(cpu).any():
        kept: npt.NDArray[np.bool_] = ~(outliers(wall) & (wall > np.median(wall)))
        return kept
    undisturbed: npt.NDArray[np.bool_] = wall <= _MAX_WALL_TO_CPU * cpu + _SLACK_MS / times
    return undisturbed


def _value(
    wall: npt.NDArray[np.float64],
    cpu: npt.NDArray[np.float64],
    clean: npt.NDArray[np.bool_],
    rules: Rules,
) -> float:
    """Sum up; with too few clean repeats the least processor time is the best that is known."""
    if clean.sum() < rules.min_clean:
        known = cpu[~np.isnan(cpu)]
        return float(known.min() if known.size else wall.min())
    return float(np.median(wall[clean]) if rules.statistic == "median" else wall[clean].min())


def _rounds(
    subject: Timed, reference: Timed | None, repeats: int
) -> tuple[list[Sample], list[Sample]]:
    own: list[Sample] = []
    other: list[Sample] = []
    while len(own) < repeats:
        if reference is not None:
            other.extend(reference())
        own.extend(subject())
    return own, other


def _run(timed: Timed, calls: int) -> None:
    done = 0
    while done < calls:
        done += len(timed())


def _agreeing(values: Sequence[float], share: float) -> tuple[int, ...] | None:
    """Return the sessions that agree with the fastest one; None if none does."""
    best = min(values)
    near = tuple(i for i, value in enumerate(values) if value <= best * (1 + share))
    return near if len(near) >= 2 else None


def _summary(
    subjects: Sequence[_Session],
    references: Sequence[_Session],
    agreed: tuple[int, ...] | None,
    rules: Rules,
) -> Timing:
    def joined(sessions: Sequence[_Session]) -> float:
        wall, cpu, clean = (
            np.concatenate([getattr(session, name) for session in sessions])
            for name in ("wall_ms", "cpu_ms", "clean")
        )
        return _value(wall, cpu, clean, rules)

    count = sum(int(session.clean.sum()) for session in subjects)
    values = tuple(session.value_ms for session in subjects)
    return Timing(
        value_ms=joined([subjects[i] for i in agreed] if agreed else subjects),
        repeats_ms=tuple(np.concatenate([session.wall_ms for session in subjects]).tolist()),
        reference_ms=joined(references) if references else None,
        clean=count,
        sessions_ms=values,
        message=_reason(count, values, agreed is not None, rules),
    )


def _reason(clean: int, values: Sequence[float], agreed: bool, rules: Rules) -> str:
    if clean < rules.min_clean:
        return f"only {clean} undisturbed repeats; the value is the least processor time"
    if agreed:
        return ""
    spread = 100 * (sorted(values)[1] / min(values) - 1)
    return (
        f"the two fastest of {len(values)} sessions differ by {spread:.1f} %, more than "
        f"{100 * rules.agreement:g} %"
    )


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
