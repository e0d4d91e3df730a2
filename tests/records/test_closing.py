"""What is closed by a `with` statement, and when."""

from __future__ import annotations

import pytest

from hwnas.records.closing import Closing


class Door(Closing):
    closed = 0

    def close(self) -> None:
        self.closed += 1


def test_it_is_closed_at_the_end_and_not_before() -> None:
    with Door() as door:
        assert door.closed == 0
    assert door.closed == 1


def test_it_is_closed_where_the_block_fails_and_the_error_goes_on() -> None:
    door = Door()
    with pytest.raises(RuntimeError, match="draught"), door:
        raise RuntimeError("draught")
    assert door.closed == 1


def test_what_cannot_be_closed_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="close"):
        Closing()  # type: ignore[abstract]
