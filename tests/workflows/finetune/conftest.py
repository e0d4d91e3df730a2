"""A folder of drawn disks and a tiny base, once for each module of tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workflows.finetune.finetune_folders import write_disks, write_tiny


@pytest.fixture(scope="module", autouse=True)
def patch() -> Iterator[pytest.MonkeyPatch]:
    """What lets the tiny geometry be known to the end of a module."""
    with pytest.MonkeyPatch.context() as found:
        yield found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_disks(tmp_path_factory.mktemp("data") / "disks")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch) -> Path:
    return write_tiny(tmp_path_factory.mktemp("base") / "tiny.safetensors", patch)
