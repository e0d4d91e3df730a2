"""Limits: how they are written, and what they are held against."""

import numpy as np
import pytest

from hwnas.errors import ConfigError
from hwnas.search import Limit

NO = np.array([np.nan])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latency<=20", Limit("latency", "<=", 20.0)),
        (" quality >= 0.8 ", Limit("quality", ">=", 0.8)),
        ("my-cost_2.x<=-1e3", Limit("my-cost_2.x", "<=", -1000.0)),
    ],
)
def test_parse(text: str, expected: Limit) -> None:
    assert Limit.parse(text) == expected
    assert Limit.parse(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("latency<20", "NAME<=VALUE"),
        ("latency==20", "NAME<=VALUE"),
        ("<=20", "NAME<=VALUE"),
        ("latency<=", "NAME<=VALUE"),
        ("latency<=20ms", "is not a number; write the bound without a unit"),
        ("latency<=nan", "finite"),
        ("latency<=inf", "finite"),
        ("latency<=20<=30", "NAME<=VALUE"),
    ],
)
def test_bad_limits_say_what_was_expected(text: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        Limit.parse(text)


def test_the_pessimistic_end_counts_unless_told_otherwise() -> None:
    value, lo, hi = np.array([18.0]), np.array([15.0]), np.array([25.0])
    upper, lower = Limit.parse("latency<=20"), Limit.parse("quality>=16")
    assert upper.violation(value, lo, hi) == [0.25]  # 25 is a quarter above 20
    assert lower.violation(value, lo, hi) == [0.0625]  # 15 is a sixteenth below 16
    assert Limit.parse("latency<=20", on="point").violation(value, lo, hi) == [-0.1]
    assert upper.violation(value, NO, NO) == [-0.1]  # no interval: the value is all there is


def test_a_bound_of_zero_counts_absolutely() -> None:
    assert Limit.parse("loss<=0").violation(np.array([3.0]), NO, NO) == [3.0]


def test_a_wrong_end_or_operator_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected 'pessimistic' or 'point'"):
        Limit("latency", "<=", 1.0, "worst")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="use <= or >="):
        Limit("latency", "<", 1.0)  # type: ignore[arg-type]
