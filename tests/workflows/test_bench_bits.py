"""Fewer bits against float32, on a network of one attention block."""

from __future__ import annotations

import json

import pytest

from hwnas.errors import ConfigError, DeviceError
from hwnas.space import Arch, SearchSpace, ordinal
from hwnas.workflows.bench_bits import bench_bits
from hwnas.workload import ops
from hwnas.workload.layers import Workload
from hwnas.workload.ops import Bits


def lower(arch: Arch) -> Workload:
    bits = Bits(int(arch["w_bits"]), int(arch["a_bits"]), 32)
    return Workload(
        (
            ops.linear("one", 8, 16, 32, bits, group="g"),
            ops.linear("two", 8, 32, 16, bits, group="g"),
            ops.linear("other", 8, 16, 16, Bits(16, 16, 16), group="g", per_prompt=True),
        )
    )


@pytest.fixture
def space() -> SearchSpace:
    return SearchSpace(
        "tiny",
        [ordinal("w_bits", (2, 4, 8), role="bits"), ordinal("a_bits", (4, 8), role="bits")],
        lower=lower,
    )


@pytest.mark.tvm
def test_every_width_has_a_time_and_its_bitops(space, tmp_path) -> None:
    pytest.importorskip("tvm")
    rows = bench_bits(space, widths=(8, 2), shapes=1, prompts=3, seconds=0.1, cache=tmp_path)
    assert [row["bits"] for row in rows] == [32, 8, 2] * 2
    product, network = rows[:3], rows[3:]
    assert {row["what"] for row in product} == {"linear 8x16x32"}
    assert [row["runs as"] for row in product] == ["fp32 w32a32", "int8 w8a8", "int8 w2a8"]
    macs = 8 * 16 * 32
    assert [row["GBitOPs"] for row in product] == [macs * b / 1e9 for b in (1024, 64, 2 * 4)]
    assert {row["what"] for row in network} == {"whole network"}
    others = 3 * 8 * 16 * 16
    expected = [(2 * macs + others) * 1024, 2 * macs * 64 + others * 256]
    assert [row["GBitOPs"] for row in network[:2]] == pytest.approx([b / 1e9 for b in expected])
    for row in rows:
        assert row["ms"] > 0
    for group in (product, network):
        assert [row["ms / fp32"] for row in group] == [r["ms"] / group[0]["ms"] for r in group]
        assert group[0]["GBitOPs / fp32"] == 1
    json.dumps(rows)


def test_another_machine_is_refused(space) -> None:
    with pytest.raises(DeviceError, match=r"raspberry-pi-5.* is not this machine"):
        bench_bits(space, device="raspberry-pi-5")


@pytest.mark.parametrize("widths", [(), (32,), (8, 8)])
def test_widths_that_make_no_sense_are_refused(space, widths) -> None:
    with pytest.raises(ConfigError, match="expected numbers of bits below 32"):
        bench_bits(space, widths=widths)
