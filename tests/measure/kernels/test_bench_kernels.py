from __future__ import annotations

import pytest

from hwnas.errors import DeviceError
from hwnas.measure.kernel import Kernel
from hwnas.workflows.bench_kernels import KERNELS, bench_kernels

pytest.importorskip("tvm")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytestmark = pytest.mark.tvm


def test_a_row_has_a_time_of_every_engine_and_the_ratio(tmp_path) -> None:
    key = "linear-8x16x32-int8-w8a8"
    (row,) = bench_kernels([key], rounds=5, seconds=0.1, cache=tmp_path)
    times = [row[f"{engine} ms"] for engine in ("ours", "onnxruntime", "torch")]
    assert all(isinstance(ms, float) and ms > 0 for ms in times)
    assert row["ours / best library"] == times[0] / min(times[1:])
    assert row["best library"] in ("onnxruntime", "torch")
    assert row["library ran"]


def test_the_default_kernels_have_good_keys() -> None:
    assert [Kernel.from_key(key).key for key in KERNELS] == list(KERNELS)


def test_a_key_that_is_none_is_refused() -> None:
    with pytest.raises(DeviceError, match="is no kernel"):
        bench_kernels(["linear"])
