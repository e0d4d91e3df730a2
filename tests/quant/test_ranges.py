"""Scales from data: the best of their grid, and never worse than the naive choice."""

from __future__ import annotations

import pytest
import torch

from hwnas.quant.bits import BITS, signed_codes, unsigned_codes
from hwnas.quant.lsq import quantize_activation, quantize_signed, quantize_weight
from hwnas.quant.ranges import activation_range, signed_scale, weight_scales


def _weight_error(weight: torch.Tensor, scale: torch.Tensor, bits: int) -> torch.Tensor:
    return (quantize_weight(weight, scale, bits) - weight).square().sum(dim=1)


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_weight_scales_are_the_best_of_forty_multiples(bits: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(8, 60) * torch.rand(8, 1)
    largest = weight.abs().amax(dim=1) / signed_codes(bits)[1]
    candidates = [largest * m for m in torch.linspace(0.2, 1.0, 40)]
    errors = torch.stack([_weight_error(weight, s, bits) for s in candidates])
    best = _weight_error(weight, weight_scales(weight, bits), bits)
    torch.testing.assert_close(best, errors.amin(dim=0))


def test_eight_bit_weight_scale_is_the_largest_value_over_127() -> None:
    weight = torch.tensor([[1.0, -2.54], [0.0, 0.0]])
    scale = weight_scales(weight, 8)
    assert float(scale[0]) == pytest.approx(0.02)
    assert float(scale[1]) > 0


@pytest.mark.parametrize("bits", BITS)
def test_range_of_skewed_values_beats_minimum_and_maximum(bits: int) -> None:
    torch.manual_seed(0)
    x = torch.nn.functional.gelu(torch.randn(20_000) * 2)
    scale, offset = activation_range(x, bits)
    naive = (x.max() - x.min()) / unsigned_codes(bits)[1]

    def error(s: torch.Tensor, o: torch.Tensor) -> float:
        return float((quantize_activation(x, s, o, bits, elements=len(x)) - x).square().mean())

    assert error(scale, offset) <= error(naive, x.min()) * 1.001
    if bits <= 4:  # clipping pays at few bits
        assert error(scale, offset) < 0.8 * error(naive, x.min())


@pytest.mark.parametrize("bits", [4, 8])
def test_signed_scale_beats_the_largest_value(bits: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(20_000)
    naive = x.abs().max() / signed_codes(bits)[1]

    def error(s: torch.Tensor) -> float:
        return float((quantize_signed(x, s, bits, elements=len(x)) - x).square().mean())

    assert error(signed_scale(x, bits)) <= error(naive) * 1.001


def test_constant_values_give_a_usable_range() -> None:
    scale, offset = activation_range(torch.full((100,), 3.0), 4)
    out = quantize_activation(torch.full((5,), 3.0), scale, offset, 4, elements=5)
    torch.testing.assert_close(out, torch.full((5,), 3.0))
    scale, offset = activation_range(torch.zeros(100), 4)
    assert float(scale) > 0
