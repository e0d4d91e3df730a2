"""Measuring many things in a row, and a share of them twice.

What is known is skipped, and what fails is recorded. At the end a share is measured again. The
difference between the first and the second measurement of that share is the noise floor of the
campaign: no predictor can be better than that, and none should be asked to be. Then what was
disturbed is visited again, in rounds: a neighbor that fills the caches stays for minutes, and the
reference kernel, which fits into the innermost ones, cannot tell how much it costs a network.
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Protocol

import numpy as np

from hwnas.calibration.noise import drift_pct, noise_between
from hwnas.errors import DeviceError
from hwnas.measure.measurement import Measurement, Subject
from hwnas.measure.store import MeasurementStore

__all__ = [
    "AGAIN_SHARE", "VISITS", "Campaign", "CampaignReport", "Item", "Standing", "Timing",
]  # fmt: skip

AGAIN_SHARE = 0.05
VISITS = 3
_AGAIN_LEAST = 3  # pairs below which a noise floor means nothing
_MOST_IN_A_ROW = 10  # failures, with no success between them: the device is gone
_POLL_S = 0.2
_CALM_SHARE = 0.75  # of the repeats: above it, times of one network agreed within a few percent
_SLOW_REFERENCE = 1.08  # times its median in this campaign


class Timing(Protocol):
    """What a campaign needs of a runner; those of `hwnas.measure.runners` have it."""

    @property
    def fingerprint(self) -> str: ...

    def time(self, subject: Any) -> Measurement:
        """Measure; what goes wrong is in the measurement, never raised."""
        ...


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to measure.

    `subject` makes what the runner takes; it is called only if the item has to be measured.
    `details` are added to those of the measurement.
    """

    kind: Subject
    key: str
    subject: Callable[[], Any]
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a campaign stands: items dealt with, of `total`; what came of them; seconds so far."""

    done: int
    total: int
    measured: int
    known: int
    failed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CampaignReport:
    """What a campaign did.

    Attributes:
        measured: Items that got a value now, `noisy` of them included.
        known: Items that the store held already.
        noisy: Items with fewer undisturbed repeats than asked.
        failed: Key and message of what failed now.
        left: Items that the time did not suffice for.
        again: (first, second) value in ms of the share that was measured twice.
        references: The reference's ms of each measurement of this campaign, in their order.
        seconds: Wall time.
    """

    measured: int
    known: int
    noisy: int
    failed: tuple[tuple[str, str], ...]
    left: int
    again: tuple[tuple[float, float], ...]
    references: tuple[float, ...]
    seconds: float

    @property
    def noise_floor_pct(self) -> float | None:
        """By how much two measurements differ on average; None without enough pairs to say."""
        if len(self.again) < _AGAIN_LEAST:
            return None
        found = noise_between(*zip(*self.again, strict=True))
        return None if found is None else found.mape

    @property
    def drift_pct(self) -> float | None:
        """By how much the reference kernel became slower from first to last; None where unknown."""
        if len(self.references) < _AGAIN_LEAST:
            return None
        return drift_pct(self.references)


class Campaign:
    """Measures items with one runner into one store.

    Args:
        runner: Does the timing.
        label: Name and version of the runner, as in `Measurement.runner`.
        store: Where the measurements go, each as soon as it is known.
        retry_failed: Measure again what failed in an earlier campaign. What failed because the
            connection was lost is always measured again.
        fresh: Measure again what has a value, too.
    """

    def __init__(
        self,
        runner: Timing,
        label: str,
        store: MeasurementStore,
        *,
        retry_failed: bool = False,
        fresh: bool = False,
    ) -> None:
        self._runner, self._label, self._store = runner, label, store
        self._retry_failed, self._fresh = retry_failed, fresh
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}Z"
        self.session = f"{now} {platform.node()} {os.getpid()}"
        self._failed: list[tuple[str, str]] = []
        self._measured = self._known = self._noisy = self._in_a_row = 0
        self._new: list[tuple[Item, Measurement]] = []

    @property
    def measured(self) -> int:
        """Items that got a value so far."""
        return self._measured

    def total(self, items: Sequence[Item], again_share: float = AGAIN_SHARE) -> int:
        """Measurements that `run` deals with at most: the items, and a share of them again."""
        return len(items) + (0 if self._fresh else _share(len(items), again_share))

    def run(
        self,
        items: Sequence[Item],
        *,
        seconds: float | None = None,
        again_share: float = AGAIN_SHARE,
        visits: int = VISITS,
        on_sample: Callable[[Standing], None] = lambda _: None,
    ) -> CampaignReport:
        """Measure what the store does not hold, in the order given, then a share once more.

        What another process is measuring at the moment comes last. What was disturbed in every
        visit so far is visited again, up to `visits` times in all. With `seconds` no new item is
        begun when they are over; a part of them is kept for the share.

        Raises:
            DeviceError: many items in a row failed; everything before is in the store.
        """
        began = time.monotonic()
        total = self.total(items, again_share)
        share = total - len(items)
        keep = 1.0 - share / total if total else 1.0
        waiting = deque(items)
        deferred: set[str] = set()
        while waiting:
            elapsed = time.monotonic() - began
            if seconds is not None and elapsed >= seconds * keep:
                break
            item = waiting.popleft()
            if self._elsewhere(item):
                if item.key in deferred:
                    time.sleep(_POLL_S)
                deferred.add(item.key)
                waiting.append(item)
                continue
            self._deal_with(item)
            on_sample(self._standing(len(items) - len(waiting), total, began))
        left = len(waiting)
        valued = [item for item in items if self._valued(item)] if share else []
        again = _evenly(valued, share)
        for number, item in enumerate(chain(again, self.restless(items, visits)), start=1):
            if seconds is not None and time.monotonic() - began >= seconds:
                break
            if number <= len(again):
                self._measure_again(item)
            else:
                self.revisit(item)
            on_sample(self._standing(min(len(items) - left + number, total), total, began))
        pairs = tuple(pair for item in again for pair in self._pair(item))
        return CampaignReport(
            self._measured, self._known, self._noisy, tuple(self._failed), left, pairs,
            self._references, time.monotonic() - began,
        )  # fmt: skip

    def measure(self, item: Item) -> Measurement:
        """What the store knows of an item, else measure it now."""
        found = self._found(item)
        return found if found is not None else self._measure(item)

    def restless(self, items: Sequence[Item], visits: int = VISITS) -> Iterator[Item]:
        """Say, in rounds, which of `items` something disturbed in every visit so far.

        An item comes up to `visits - 1` times, as long as `revisit` is called and does not help.
        """
        for _ in range(1, visits):
            for item in items:
                rows = self._valued(item)
                if 0 < len(rows) < visits and not any(self._is_calm(row) for row in rows):
                    yield item

    def revisit(self, item: Item) -> Measurement:
        """Measure an item once more because it was disturbed."""
        return self._measure(item, visit=len(self._valued(item)) + 1)

    def _deal_with(self, item: Item) -> None:
        if self._found(item) is not None:
            self._known += 1
            return
        found = self._measure(item)
        if found.status == "failed":
            self._failed.append((item.key, found.message))
            self._in_a_row += found.details.get("cause") != "unsupported"
            if self._in_a_row >= _MOST_IN_A_ROW:
                raise DeviceError(
                    f"{self._in_a_row} measurements in a row failed, the last ({item.key}): "
                    f"{found.message}; everything before is in {self._store.path}: see to the "
                    "device (`hwnas doctor` checks this machine), then repeat the same command"
                )
            return
        self._in_a_row = 0
        self._measured += 1
        self._noisy += found.status == "noisy"

    def _found(self, item: Item) -> Measurement | None:
        """What the store holds of an item and need not be measured again."""
        if self._fresh:
            return None
        found = self._store.latest(item.kind, item.key, self._runner.fingerprint, self._label)
        if found is None or found.status != "failed":
            return found
        retry = self._retry_failed or found.details.get("cause") == "connection"
        return None if retry else found

    def _elsewhere(self, item: Item) -> bool:
        """Whether another process is at it; if not, it is ours from here on."""
        if self._found(item) is not None:
            return False
        where = (item.kind, item.key, self._runner.fingerprint, self._label)
        return not self._store.claim(*where)

    def _measure(self, item: Item, **marks: Any) -> Measurement:
        found = self._runner.time(item.subject())
        details = {**found.details, **item.details, "session": self.session, **marks}
        found = replace(
            found,
            details=details,
            measured_at=found.measured_at or datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._store.add(found)
        self._new.append((item, found))
        return found

    def _is_calm(self, row: Measurement) -> bool:
        usual = float(np.median(self._references)) if self._references else math.inf
        slow = row.reference_ms is not None and row.reference_ms > _SLOW_REFERENCE * usual
        return row.status == "ok" and row.calm_share >= _CALM_SHARE and not slow

    @property
    def _references(self) -> tuple[float, ...]:
        return tuple(m.reference_ms for _, m in self._new if m.reference_ms is not None)

    def _measure_again(self, item: Item) -> None:
        """Measure an item of the share unless that was done before, by whichever campaign."""
        if not any(row.details.get("again") for row in self._valued(item)):
            self._measure(item, again=True)

    def _pair(self, item: Item) -> list[tuple[float, float]]:
        rows = self._valued(item)
        second = [row for row in rows[1:] if row.details.get("again")]
        return [(_value(rows[0]), _value(second[0]))] if second else []

    def _valued(self, item: Item) -> list[Measurement]:
        rows = self._store.rows(
            item.kind, key=item.key, fingerprint=self._runner.fingerprint, runner=self._label
        )
        return [row for row in rows if row.value_ms is not None]

    def _standing(self, done: int, total: int, began: float) -> Standing:
        return Standing(
            done, total, self._measured, self._known, len(self._failed), time.monotonic() - began
        )


def _value(row: Measurement) -> float:
    assert row.value_ms is not None  # its callers have left out what failed
    return row.value_ms


def _share(n: int, share: float) -> int:
    """How many of `n` items are measured twice: enough for a noise floor, if any are wanted."""
    return min(n, max(_AGAIN_LEAST, math.ceil(share * n))) if share > 0 else 0


def _evenly(items: Sequence[Item], count: int) -> list[Item]:
    """So many of the items, evenly over the list."""
    rows = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[row] for row in dict.fromkeys(rows.tolist())]
