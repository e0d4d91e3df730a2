"""The emulation rule on small made-up devices."""

import pytest

from hwnas.device import Execution, from_dict
from hwnas.errors import DeviceError

PEAKS = {"fp32": 1.0, "fp16": 2.0, "int8": 4.0, "int8x16": 3.0, "int4": 8.0}


def profile(pairs, *, packed=(), fallback=None):
    return from_dict({
        "id": "toy", "name": "Toy", "kind": "npu", "runtime": {"name": "none"},
        "peak_tops_dense": PEAKS, "bandwidth_gbps": 10, "ram_bytes": 2**30,
        "pairs": [dict(zip(("w", "a", "runs_as"), pair, strict=True)) for pair in pairs],
        "packed_weight_bits": list(packed), "fallback": fallback,
    })  # fmt: skip


FULL = [(32, 32, "fp32"), (16, 16, "fp16"), (8, 16, "int8x16"), (8, 8, "int8"), (4, 4, "int4")]


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        ((8, 8), Execution("int8", 8, 8, native=True)),
        ((4, 4), Execution("int4", 4, 4, native=True)),
        ((8, 16), Execution("int8x16", 8, 16, native=True)),
        ((2, 2), Execution("int4", 2, 4, native=False)),
        ((3, 4), Execution("int4", 4, 4, native=False)),
        ((4, 8), Execution("int8", 4, 8, native=False)),
        ((8, 4), Execution("int8", 8, 8, native=False)),
        ((6, 6), Execution("int8", 8, 8, native=False)),
        ((4, 16), Execution("int8x16", 4, 16, native=False)),
        ((16, 8), Execution("fp16", 16, 16, native=False)),
        ((32, 8), Execution("fp32", 32, 32, native=False)),
        ((4, 32), Execution("fp32", 4, 32, native=False)),
    ],
)
def test_smallest_native_pair_that_covers_both(bits, expected):
    assert profile(FULL, packed=[2, 4, 8]).execution(*bits) == expected


def test_order_of_the_file_does_not_matter():
    forward, backward = profile(FULL, packed=[4]), profile(FULL[::-1], packed=[4])
    widths = [(w, a) for w in (2, 3, 4, 6, 8, 16, 32) for a in (2, 3, 4, 6, 8, 16, 32)]
    assert [forward.execution(*b) for b in widths] == [backward.execution(*b) for b in widths]


def test_without_packing_a_narrow_weight_takes_the_width_of_the_arithmetic():
    assert profile([(8, 8, "int8")]).execution(4, 8).w_bits_in_memory == 8


def test_packing_cannot_be_wider_than_the_arithmetic():
    run = profile([(4, 4, "int4"), (8, 8, "int8")], packed=[8]).execution(3, 3)
    assert (run.dtype, run.w_bits_in_memory) == ("int4", 4)


def test_a_listed_pair_that_is_not_native_is_no_target_for_others():
    """W4A8 runs as int8 and is listed; W3A8 must not count it as native and stay at 4 x 8."""
    device = profile([(8, 8, "int8"), (4, 8, "int8")], packed=[2, 4])
    assert not device.execution(4, 8).native
    assert device.execution(3, 8) == Execution("int8", 4, 8, native=False)


def test_fallback_takes_what_no_pair_covers():
    device = profile([(8, 8, "int8")], fallback="fp32")
    assert device.execution(16, 8) == Execution("fp32", 32, 32, native=False)


def test_a_unit_without_fp32_runs_float_layers_as_fp16():
    device = profile([(16, 16, "fp16"), (8, 8, "int8")], packed=[4, 8], fallback="fp16")
    assert device.execution(32, 32) == Execution("fp16", 16, 16, native=False)


@pytest.mark.parametrize("fallback", [None, "int8"])
def test_nothing_wide_enough_is_an_error_that_says_what_there_is(fallback):
    with pytest.raises(DeviceError, match=r"toy cannot run w32a8: it lists w8a8") as error:
        profile([(8, 8, "int8")], fallback=fallback).execution(32, 8)
    assert (fallback or "no fallback") in str(error.value)


def test_execution_is_remembered():
    device = profile(FULL)
    assert device.execution(5, 5) is device.execution(5, 5)


def test_peak_of_an_absent_data_type_is_an_error():
    with pytest.raises(DeviceError, match=r"no peak for 'bf16'; it has fp32, fp16"):
        profile(FULL).peak_macs_per_s("bf16")


def test_efficiency_knows_the_kinds_of_a_workload():
    device = profile(FULL)
    assert device.efficiency("linear") == device.efficiency("gemm") == 0.5
    assert device.efficiency("matmul") == device.efficiency("attention") == 0.25
    assert device.efficiency("softmax") == device.efficiency("memory") == 0.7
    with pytest.raises(DeviceError, match=r"did you mean 'dwconv'\?"):
        device.efficiency("dwcon")


def test_every_kind_of_a_workload_has_an_efficiency():
    from hwnas.workload.layers import KINDS

    assert all(profile(FULL).efficiency(kind) > 0 for kind in KINDS)


def test_efficiency_of_a_data_type_goes_before_that_of_the_kind():
    values = profile(FULL).to_dict()
    values["efficiency"] = {"gemm": 0.6, "gemm.int8": 0.3}
    device = from_dict(values)
    assert device.efficiency("gemm", "int8") == 0.3
    assert device.efficiency("gemm", "fp16") == device.efficiency("gemm") == 0.6
    assert device.efficiency("conv", "int8") == 0.4
