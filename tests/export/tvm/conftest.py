"""One cache of compiled kernels for all tests of this folder."""

from __future__ import annotations

import pytest

from hwnas.device import find
from hwnas.measure.builder import Builder


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    pytest.importorskip("tvm")
    return Builder(find("host"), tmp_path_factory.mktemp("kernels"))
