"""How a time is taken: repeats next to a fixed reference, disturbed ones rejected, sessions agreed.

On a machine that does other work the mean of some repeats says more about that work than about
the kernel. So each round runs the subject and a fixed reference; a repeat whose wall time is well
above its processor time was pre-empted and does not count; and rounds go on until two sessions
agree. A repeat counts only if the reference was as fast as it can be before and after it; where
it is not, the next repeat waits (`hwnas.measure.quiet`). `hwnas.calibration.noise` judges whole
campaigns.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwnas.measure.quiet import Quiet
from hwnas.measure.samples import Rules, Sample, Session, Timed

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Timing", "take"]


@dataclass(frozen=True, slots=True)
class Timing:
    """What came out; times in ms of one call.

    Attributes:
        value_ms: The statistic of the clean repeats of the sessions that agree; of all sessions
            where none agree.
        repeats_ms: Wall times of all sessions, in their order.
        reference_ms: The same statistic of the reference; None without one.
        clean: How many repeats were neither pre-empted nor beside a slow reference.
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
    quiet: Quiet | None = None,
    clock: Callable[[], float] = time.monotonic,
    progress: Callable[[], None] = lambda: None,
) -> Timing:
    """Time `subject` by `rules`; `progress` is called before the warm-up and every session.

    `quiet` knows the reference from the subjects before.
    """
    quiet = quiet or Quiet()
    progress()
    began = clock()
    for timed in filter(None, (subject, reference)):
        _run(timed, rules.warmup)
    subjects: list[Session] = []
    references: list[Session] = []
    while True:
        with _no_garbage_collection():
            own, calm, other = _rounds(subject, reference, rules, quiet)
        subjects.append(Session.of(own, calm, rules))
        references.extend([Session.of(other, [True] * len(other), rules)] if other else [])
        agreed = _agreeing(subjects, rules)
        spent = clock() - began if len(subjects) >= 2 else 0.0
        last = len(subjects) >= rules.max_sessions or spent >= rules.budget_s
        enough = spent >= rules.least_s or all(session.calm.all() for session in subjects)
        if last or (agreed is not None and enough):
            return _summary(subjects, references, agreed, rules)
        progress()


def _rounds(
    subject: Timed, reference: Timed | None, rules: Rules, quiet: Quiet
) -> tuple[list[Sample], list[bool], list[Sample]]:
    """Repeat the subject between runs of the reference; say beside which both were fast."""
    own: list[Sample] = []
    calm: list[bool] = []
    other: list[Sample] = []
    if reference is None:
        while len(own) < rules.repeats:
            own.extend(subject())
        return own, [True] * len(own), other

    def probe() -> float:
        found = [*reference(), *reference()]  # the first one finds its operands out of the cache
        other.extend(found)
        return min(sample.wall_ms for sample in found)

    _, before = quiet.wait(probe, rules.patience_s)
    while len(own) < rules.repeats:
        own.extend(subject())
        last = len(own) >= rules.repeats
        after, ahead = quiet.wait(probe, 0.0 if last else rules.patience_s)
        calm.extend([before and after] * (len(own) - len(calm)))
        before = ahead
    return own, calm, other


def _run(timed: Timed, calls: int) -> None:
    done = 0
    while done < calls:
        done += len(timed())


def _agreeing(sessions: Sequence[Session], rules: Rules) -> tuple[int, ...] | None:
    """Return the sessions that agree with the fastest one; None if none does.

    Sessions that were slow all the time agree as well, and say nothing: they do not count.
    """
    best = min(session.value_ms for session in sessions)
    near = tuple(
        i for i, session in enumerate(sessions)
        if session.value_ms <= best * (1 + rules.agreement)
        and (session.calm.all() or session.count >= rules.min_clean)
    )  # fmt: skip
    return near if len(near) >= 2 else None


def _summary(
    subjects: Sequence[Session],
    references: Sequence[Session],
    agreed: tuple[int, ...] | None,
    rules: Rules,
) -> Timing:
    whole = Session.joined(subjects, rules)
    best = Session.joined([subjects[i] for i in agreed], rules) if agreed else whole
    values = tuple(session.value_ms for session in subjects)
    return Timing(
        value_ms=best.value_ms,
        repeats_ms=tuple(whole.wall_ms.tolist()),
        reference_ms=Session.joined(references, rules).value_ms if references else None,
        clean=whole.count,
        sessions_ms=values,
        message=_reason(whole, subjects, agreed is not None, rules),
    )


def _reason(whole: Session, subjects: Sequence[Session], agreed: bool, rules: Rules) -> str:
    if whole.clean.sum() < rules.min_clean:
        return f"only {whole.count} undisturbed repeats; the value is the least processor time"
    if whole.count < rules.min_clean:
        return (
            f"beside {int((~whole.calm).sum())} of {len(whole.calm)} repeats the reference was "
            "slower than usual: something else slows the machine down"
        )
    if agreed:
        return ""
    fast = sum(session.count >= rules.min_clean for session in subjects)
    if fast < 2:
        return (
            f"in {fast} of {len(subjects)} sessions the reference was as fast as usual beside at "
            f"least {rules.min_clean} repeats, expected 2: something else slows the machine down"
        )
    values = sorted(session.value_ms for session in subjects)
    spread = 100 * (values[1] / values[0] - 1)
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
