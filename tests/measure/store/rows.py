"""Measurements that the tests of the store keep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hwnas.measure.measurement import Measurement

GOOD = Measurement(
    subject="kernel",
    key="linear-1024x192x576-int8-w4a8",
    fingerprint="a processor | tvm 0.27 | 1 threads | default",
    runner="tvm 0.27",
    status="ok",
    value_ms=1.25,
    repeats_ms=(1.3, 1.25, 0.1 + 0.2),
    reference_ms=0.5,
    clean=3,
    measured_at="2026-11-22T07:00:00+00:00",
    details={"session": "a", "clock": {"governor": "performance"}},
)


def row(**changes: Any) -> Measurement:
    """The measurement above with some fields replaced."""
    return replace(GOOD, **changes)


FAILED = row(
    status="failed", value_ms=None, repeats_ms=(), clean=0, message="took > 60 s, \n killed"
)
