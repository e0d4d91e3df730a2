"""Which layers a device runs natively, and what the others cost."""

from __future__ import annotations

import pytest

from hwnas.device import find
from hwnas.export.native_check import check_layers, summary
from hwnas.workload import LayerSpec, Workload


def _layer(name: str, w_bits: int, a_bits: int) -> LayerSpec:
    return LayerSpec(
        name,
        "linear",
        1_000_000,
        1000,
        1000,
        1000,
        w_bits=w_bits,
        a_bits=a_bits,
        shape=(1000, 1, 1000),
    )


def test_each_layer_has_its_fate() -> None:
    layers = (_layer("a", 8, 8), _layer("b", 4, 8), _layer("c", 2, 3), _layer("d", 32, 32))
    fates = check_layers(Workload(layers), find("jetson-orin"))
    assert [fate.fate for fate in fates][::3] == ["native", "float"]
    assert {fate.fate for fate in fates[1:3]} <= {"native", "widened"}
    assert fates[0].gbitops == fates[0].executed_gbitops == pytest.approx(0.064)
    assert all(fate.executed_gbitops >= fate.gbitops for fate in fates)


def test_widening_is_told_in_bitops() -> None:
    fates = check_layers(Workload((_layer("a", 2, 4),)), find("host"))
    assert fates[0].fate == "widened"
    assert fates[0].dtype == "int8"
    text = "\n".join(summary(fates))
    assert "1 layers (100.0 % of MACs) are widened to a wider integer type: w2a4 as int8" in text
    assert "0.008 GBitOPs; the device multiplies 0.064 GBitOPs for them, 8.00 times" in text
