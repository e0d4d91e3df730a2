"""Memory and time of a training step."""

from __future__ import annotations

import pytest

from hwnas.errors import ConfigError
from hwnas.workflows.bench_training import bench_training


def test_adapters_take_less_memory_than_all_weights() -> None:
    adapters, weights = bench_training(
        "sam-vit-t", ways=["multiplex", "none"], resolution=128, prompts=2, steps=1, threads=1,
        checkpoint_blocks=True,
    )  # fmt: skip
    assert adapters["trained"] < weights["trained"]  # type: ignore[operator]
    assert adapters["peak MiB"] < weights["peak MiB"]  # type: ignore[operator]
    assert weights["time, ratio"] == 1


def test_unknown_ways_are_named() -> None:
    with pytest.raises(ConfigError, match="lora; expected ways among multiplex"):
        bench_training("sam-vit-t", ways=["lora"])
