"""How often a kernel runs in one sample."""

from __future__ import annotations

import pytest

from hwnas.measure.runners.copies import copies_for
from hwnas.measure.samples import Sample


@pytest.mark.parametrize(
    ("wall_ms", "cpu_ms", "constant_bytes", "copies"),
    [
        (0.1, None, 1000, 50),  # as many as fit five milliseconds
        (0.1, None, 100_000, 10),  # enough for constants that do not stay in the cache
        (4.0, 0.1, 100_000, 10),  # its own time counts, not that of whoever was let in
        (4.0, None, 100_000, 1),  # nobody can tell
        (0.001, 0.001, 0, 64),  # never more than that
        (20.0, 20.0, 1000, 1),
    ],
)
def test_copies(wall_ms: float, cpu_ms: float | None, constant_bytes: int, copies: int) -> None:
    calls = []

    def once() -> list[Sample]:
        calls.append(1)
        return [Sample(wall_ms, cpu_ms)]

    assert copies_for(once, constant_bytes, 1_000_000) == copies
    assert len(calls) == 3
