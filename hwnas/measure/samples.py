"""Samples of one call, and sessions of them: which count, and what they sum up to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from hwnas.calibration.noise import outliers

if TYPE_CHECKING:
    from hwnas.device.fields import MeasuringProtocol

__all__ = ["Rules", "Sample", "Session", "Timed", "sampled"]

Float = NDArray[np.float64]
Flags = NDArray[np.bool_]
_MAX_WALL_TO_CPU: Final = 1.1
_SLACK_MS: Final = 0.05
_LEAST_S: Final = 0.05  # for each repeat that the protocol asks for
_MOST_LEAST_S: Final = 1.0


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
        least_s: Sessions go on for at least so long, unless the reference was fast all the time:
            what slows a machine down comes and goes.
        patience_s: How long one repeat waits for a reference that is as fast as usual.
        max_sessions: Nor after so many.
    """

    warmup: int = 2
    repeats: int = 20
    statistic: Literal["median", "minimum"] = "minimum"
    agreement: float = 0.03
    min_clean: int = 3
    budget_s: float = 10.0
    least_s: float = 0.0
    patience_s: float = 0.5
    max_sessions: int = 50

    @classmethod
    def of(cls, protocol: MeasuringProtocol, *, budget_s: float = 10.0) -> Rules:
        """Take over a device profile's protocol."""
        return cls(
            protocol.warmup, protocol.repeats, protocol.statistic,
            min_clean=min(3, protocol.repeats), budget_s=budget_s,
            least_s=min(_LEAST_S * protocol.repeats, _MOST_LEAST_S),
        )  # fmt: skip


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
class Session:
    """Repeats in a row (n,): which were not pre-empted, and beside which the reference was fast.

    Attributes:
        wall_ms: Wall times.
        cpu_ms: Processor times; NaN where nobody can tell.
        clean: Not pre-empted.
        calm: Between two runs of a reference that was as fast as usual.
        value_ms: The protocol's statistic of the best that is known.
    """

    wall_ms: Float
    cpu_ms: Float
    clean: Flags
    calm: Flags
    value_ms: float

    @classmethod
    def of(cls, samples: Sequence[Sample], calm: Sequence[bool], rules: Rules) -> Self:
        wall = np.array([sample.wall_ms for sample in samples])
        cpu = np.array([np.nan if s.cpu_ms is None else s.cpu_ms for s in samples])
        clean = _clean(wall, cpu, np.array([sample.times for sample in samples]))
        return cls._summed_up(wall, cpu, clean, np.array(calm, np.bool_), rules)

    @classmethod
    def joined(cls, sessions: Sequence[Session], rules: Rules) -> Self:
        wall, cpu, clean, calm = (
            np.concatenate([getattr(session, name) for session in sessions])
            for name in ("wall_ms", "cpu_ms", "clean", "calm")
        )
        return cls._summed_up(wall, cpu, clean, calm, rules)

    @classmethod
    def _summed_up(cls, wall: Float, cpu: Float, clean: Flags, calm: Flags, rules: Rules) -> Self:
        return cls(wall, cpu, clean, calm, _value(wall, cpu, clean, calm, rules))

    @property
    def count(self) -> int:
        """How many samples are clean and calm."""
        return int((self.clean & self.calm).sum())


def _clean(wall: Float, cpu: Float, times: NDArray[np.int64]) -> Flags:
    """Keep what was not pre-empted, or where processor time is unknown what is no outlier."""
    if np.isnan(cpu).any():
        kept: Flags = ~(outliers(wall) & (wall > np.median(wall)))
        return kept
    undisturbed: Flags = wall <= _MAX_WALL_TO_CPU * cpu + _SLACK_MS / times
    return undisturbed


def _value(
    wall: Float,
    cpu: Float,
    clean: Flags,
    calm: Flags,
    rules: Rules,
) -> float:
    """Sum up the best that is known: undisturbed repeats, else clean ones, else processor time."""
    for kept in (clean & calm, clean):
        if kept.sum() >= rules.min_clean:
            return float(np.median(wall[kept]) if rules.statistic == "median" else wall[kept].min())
    known = cpu[~np.isnan(cpu)]
    return float(known.min() if known.size else wall.min())
