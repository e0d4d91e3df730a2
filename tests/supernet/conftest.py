"""A base of random weights and the scales of its quantizers, once for each module of tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.supernet.trained_nets import Weights, scales_of, write_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "base.safetensors")


@pytest.fixture(scope="module")
def scales(base: Path) -> Weights:
    return scales_of(base)
