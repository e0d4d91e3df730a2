"""Choosing what to verify, and what is refused before a search begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwnas
from hwnas.errors import ConfigError, DeviceError
from hwnas.search import Column, Designs, ParetoFront
from hwnas.space import load_space
from hwnas.workflows.verify import best_spread


def front(values: list[tuple[float, float]]) -> ParetoFront:
    space = load_space("toy")
    archs = space.sample(np.random.default_rng(0), 200).unique()[: len(values)]
    columns = (
        Column("quality", "IoU", "max", "proxy"),
        Column("latency", "ms", "min", "estimated"),
        Column("bitops", "GBitOPs", "min", "analytic", objective=False),
    )
    matrix = np.array([(q, ms, 0.0) for q, ms in values]).reshape(-1, 3)
    unknown = np.full_like(matrix, np.nan)
    return ParetoFront(Designs(archs, columns, matrix, unknown, unknown))


LINE = [(0.9, 100.0), (0.89, 60.0), (0.88, 30.0), (0.5, 20.0), (0.3, 15.0), (0.1, 10.0)]


def test_the_ends_and_the_knee_come_first_then_the_gaps() -> None:
    assert best_spread(front(LINE), 3) == [0, 5, 2]
    assert best_spread(front(LINE), 1) == [0]
    assert sorted(best_spread(front(LINE), 6)) == [0, 1, 2, 3, 4, 5]
    assert best_spread(front(LINE), 4)[:3] == [0, 5, 2]


def test_a_small_front_is_taken_whole() -> None:
    assert sorted(best_spread(front(LINE[:2]), 5)) == [0, 1]
    assert best_spread(front([(0.5, 1.0)]), 5) == [0]
    assert best_spread(front([]), 5) == []


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({}, ConfigError, "pass --device NAME"),
        ({"device": "host"}, ConfigError, "none of them is in ms"),
        ({"device": "jetson-orin", "costs": ["latency"]}, DeviceError, "is not this machine"),
        (
            {"device": "host", "costs": ["latency"], "measuring": {"tracker": "box:9190"}},
            ConfigError,
            "add --key NAME",
        ),
    ],
)
def test_what_cannot_be_verified_is_refused_before_the_search(
    settings: dict[str, Any], error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        hwnas.search(
            "toy",
            objectives=["toy_quality", "bitops"],
            verify=2,
            out=tmp_path / "run",
            **settings,
        )
    assert not (tmp_path / "run").exists()


def test_a_verification_without_a_place_for_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="out=FOLDER"):
        hwnas.search("toy", objectives=["toy_quality", "latency"], device="host", verify=2)
