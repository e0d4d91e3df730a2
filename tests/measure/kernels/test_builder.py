from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwnas.device import find, host_profile
from hwnas.errors import DeviceError
from hwnas.measure.builder import Builder, target_of
from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels import FAMILIES

tvm = pytest.importorskip("tvm")
pytestmark = pytest.mark.tvm

LINEAR = Kernel.from_key("linear-5x12x20-int8-w4a8")
ADD = Kernel.from_key("add-10-fp32-w32a32")


def test_a_built_kernel_runs_and_is_checked(tmp_path: Path) -> None:
    builder = Builder(host_profile(), tmp_path)
    built = builder.build(LINEAR)
    assert built.checked
    assert built.symbol == "linear_5x12x20_int8_w4a8"
    assert built.library is not None
    assert built.object is not None
    assert built.library.suffix == ".so"
    assert built.object.exists()
    assert builder.check(built, seed=3) < 1e-5


def test_a_second_builder_takes_the_cached_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Builder(host_profile(), tmp_path).build(ADD)
    monkeypatch.setattr(tvm, "compile", lambda *a, **k: pytest.fail("compiled again"))
    assert Builder(host_profile(), tmp_path).build(ADD).library == first.library


def test_without_a_folder_libraries_live_as_long_as_the_builder() -> None:
    builder = Builder(host_profile())
    library = builder.build(ADD).library
    assert library is not None
    assert library.exists()


def test_a_kernel_with_wrong_numbers_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = FAMILIES["add"]

    def wrong(*arguments):
        problem = add.problem(*arguments)
        return replace(problem, expected=lambda: np.ones(problem.output))

    monkeypatch.setitem(FAMILIES, "add", replace(add, problem=wrong))
    with pytest.raises(DeviceError, match="computes wrong numbers: relative error"):
        Builder(host_profile(), tmp_path).build(ADD)
    assert not list(tmp_path.iterdir())


def test_an_unknown_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"no kernels of kind 'fft'; known: linear"):
        Builder(host_profile(), tmp_path).build(Kernel("fft", (4,), "fp32", 32, 32))


def test_a_data_type_without_kernels_is_named(tmp_path: Path) -> None:
    kernel = Kernel("linear", (4, 4, 4), "fp8", 8, 8)
    with pytest.raises(DeviceError, match="no processor kernel multiplies fp8"):
        Builder(host_profile(), tmp_path).build(kernel)


@pytest.mark.parametrize("name", ["raspberry-pi-4", "raspberry-pi-5", "x86-avx2"])
def test_other_processors_get_an_object(name: str, tmp_path: Path) -> None:
    builder = Builder(find(name), tmp_path)
    assert not builder.runs_here
    for kernel in (LINEAR, Kernel.from_key("attention-1x2x4x16-int8-w8a8")):
        built = builder.build(kernel)
        assert not built.checked
        assert built.object is not None
        assert built.object.read_bytes()[:4] == b"\x7fELF"


def test_a_device_without_target_is_refused() -> None:
    with pytest.raises(DeviceError, match="edge-tpu has no tvm_target"):
        target_of(find("edge-tpu"))


def test_two_kernels_link_into_one_library(tmp_path: Path) -> None:
    builder = Builder(host_profile(), tmp_path)
    names = [builder.build(kernel).symbol for kernel in (LINEAR, ADD)]
    assert len(set(names)) == 2


def test_numbers_that_are_not_finite_are_wrong(tmp_path: Path) -> None:
    from hwnas.measure.numerics import relative_error

    assert relative_error(np.array([1.0, np.nan]), np.ones(2)) == float("inf")
