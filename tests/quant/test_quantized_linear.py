"""Integer, fake-quantized and trainable layers compute the same."""

from __future__ import annotations

import pytest
import torch

from hwnas.quant.bits import BITS, signed_codes, unsigned_codes
from hwnas.quant.integer import integer_products_exact
from hwnas.quant.linear import (
    ActivationGrid,
    FloatLinear,
    IntegerLinear,
    QuantizedWeight,
    quantized_linear,
)
from hwnas.quant.merged import MergedWeight, TrainableLinear


def _layer(bits: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, ActivationGrid]:
    torch.manual_seed(bits)
    low, high = signed_codes(bits)
    codes = torch.randint(low, high + 1, (24, 40), dtype=torch.int8)
    grid = ActivationGrid(0.11, -1.3, unsigned_codes(bits)[1])
    return codes, torch.rand(24) * 0.1, torch.randn(24), grid


def _inputs(grid: ActivationGrid) -> torch.Tensor:
    """Values a third of a step off the grid, clipped ones included: no rounding is close."""
    codes = torch.randint(-2, grid.highest + 3, (3, 17, 40))
    return (codes + 0.3) * grid.scale + grid.offset


@pytest.mark.parametrize("bits", BITS)
def test_all_forms_agree(bits: int) -> None:
    if not integer_products_exact():
        pytest.skip("this processor has no exact int8 products; the integer form is not used")
    codes, scale, bias, grid = _layer(bits)
    x = _inputs(grid)
    weight = codes * scale[:, None]
    rounded = grid.scale * ((x - grid.offset) / grid.scale).round().clamp(0, grid.highest)
    expected = (rounded + grid.offset).double() @ weight.double().t() + bias
    merged = MergedWeight(lambda: weight, (), None, 32)
    input_range = torch.tensor([grid.scale, grid.offset])
    trainable = TrainableLinear(merged, bias, input_range, bits, elements=680)
    forms = [
        quantized_linear(QuantizedWeight.of(codes, scale), bias, grid, integer=True),
        quantized_linear(QuantizedWeight.of(codes, scale), bias, grid, integer=False),
        FloatLinear(weight, bias, grid),
        trainable,
    ]
    for form in forms:
        error = (form(x).double() - expected).norm() / expected.norm()
        assert float(error) < 1e-5


def test_integers_are_chosen_where_they_are_exact() -> None:
    codes, scale, bias, grid = _layer(4)
    chosen = quantized_linear(QuantizedWeight.of(codes, scale), bias, grid)
    assert isinstance(chosen, IntegerLinear) == integer_products_exact()


def test_input_is_not_changed() -> None:
    codes, scale, bias, grid = _layer(8)
    x = _inputs(grid)
    before = x.clone()
    quantized_linear(QuantizedWeight.of(codes, scale), bias, grid)(x)
    grid.quantize(x)
    assert torch.equal(x, before)
