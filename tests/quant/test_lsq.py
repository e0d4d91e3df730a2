"""LSQ and LSQ+: values, gradients, and a slow twin of each."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.errors import ConfigError
from hwnas.quant.bits import BITS, require_bits, signed_codes
from hwnas.quant.lsq import (
    gradient_scale,
    quantize_activation,
    quantize_signed,
    quantize_unsigned,
    quantize_weight,
)
from tests.quant.plain_quantizers import plain_activation, plain_weight


@pytest.mark.parametrize("bits", BITS)
def test_weight_equals_a_loop_over_elements(bits: int) -> None:
    torch.manual_seed(bits)
    weight, scale = torch.randn(5, 7), torch.rand(5) * 0.3 + 0.05
    low, high = signed_codes(bits)
    expected = [
        [float(s) * max(low, min(high, round(float(w) / float(s)))) for w in row]
        for row, s in zip(weight, scale, strict=True)
    ]
    torch.testing.assert_close(quantize_weight(weight, scale, bits), torch.tensor(expected))


@pytest.mark.parametrize("bits", BITS)
def test_weight_gradients_equalplain_autograd(bits: int) -> None:
    torch.manual_seed(bits)
    weight, grad = torch.randn(6, 40), torch.randn(6, 40)
    scale = torch.rand(6) * 2.0 / signed_codes(bits)[1] + 0.01
    ours, plain = ([t.clone().requires_grad_() for t in (weight, scale)] for _ in range(2))
    a = quantize_weight(*ours, bits)
    b = plain_weight(*plain, bits)
    torch.testing.assert_close(a, b)
    a.backward(grad)
    b.backward(grad)
    for own, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bits", BITS)
def test_activation_gradients_equalplain_autograd(bits: int) -> None:
    torch.manual_seed(bits)
    x, grad = torch.randn(3, 50), torch.randn(3, 50)
    scale, offset = torch.tensor(2.0 / 2**bits), torch.tensor(-0.9)
    ours, plain = ([t.clone().requires_grad_() for t in (x, scale, offset)] for _ in range(2))
    a = quantize_activation(*ours, bits, elements=50)
    b = plain_activation(*plain, bits, 50)
    torch.testing.assert_close(a, b)
    a.backward(grad)
    b.backward(grad)
    for own, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-5, atol=1e-5)


def test_scale_gradient_is_the_finite_difference_where_codes_do_not_change() -> None:
    # With fixed codes s -> s * codes is linear, so the slope of LSQ minus its straight-through
    # term -v is the true derivative.
    weight = torch.tensor([[0.31, -0.52, 0.11, 5.0, -5.0]], dtype=torch.float64)
    scale = torch.tensor([0.2], dtype=torch.float64, requires_grad=True)
    quantize_weight(weight, scale, 3).sum().backward()
    h = 1e-6
    with torch.no_grad():
        slope = (
            quantize_weight(weight, scale + h, 3) - quantize_weight(weight, scale - h, 3)
        ).sum()
    inside = weight[0, :3] / 0.2
    expected = (slope / (2 * h) - inside.sum()) * gradient_scale(5, 3)
    torch.testing.assert_close(scale.grad, expected[None].detach())


def test_offset_gradient_is_the_finite_difference_outside_the_range() -> None:
    x = torch.tensor([-3.0, 4.0], dtype=torch.float64)  # below and above [-1, 2]
    scale = torch.tensor(1.0, dtype=torch.float64)
    offset = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    quantize_activation(x, scale, offset, 2, elements=2).sum().backward()
    h = 1e-6
    with torch.no_grad():
        up, down = (quantize_activation(x, scale, offset + d, 2, elements=2) for d in (h, -h))
    expected = (up - down).sum() / (2 * h) * gradient_scale(2, 3)
    torch.testing.assert_close(offset.grad, expected)


@settings(max_examples=40, deadline=None)
@given(bits=st.sampled_from(BITS), seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3))
def test_representable_tensor_is_unchanged(bits: int, seed: int, scale: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    low, high = signed_codes(bits)
    s = torch.tensor(scale)
    weight = torch.randint(low, high + 1, (3, 9), generator=rng) * s
    torch.testing.assert_close(quantize_weight(weight, s.repeat(3), bits), weight)
    offset = torch.randn((), generator=rng) * s
    x = torch.randint(0, 2**bits, (20,), generator=rng) * s + offset
    torch.testing.assert_close(quantize_activation(x, s, offset, bits, elements=20), x)


@pytest.mark.parametrize("bits", BITS)
def test_at_most_two_to_the_bits_values(bits: int) -> None:
    x = torch.linspace(-4, 4, 4000)
    scale = torch.tensor(1.0 / 2 ** (bits - 1))
    signed = quantize_signed(x, scale, bits, elements=4000)
    unsigned = quantize_unsigned(x, scale, bits, elements=4000)
    shifted = quantize_activation(x, scale, torch.tensor(-0.7), bits, elements=4000)
    rows = quantize_weight(x.view(4, 1000), scale.repeat(4), bits)
    assert len(signed.unique()) == 2**bits
    assert len(unsigned.unique()) == 2**bits
    assert len(shifted.unique()) == 2**bits
    assert all(len(row.unique()) <= 2**bits for row in rows)
    assert float(unsigned.min()) == 0.0


def test_centered_grid_has_four_levels_around_zero() -> None:
    weight = torch.linspace(-3, 3, 601)[None].requires_grad_()
    scale = torch.tensor([0.8], requires_grad=True)
    out = quantize_weight(weight, scale, 2, centered=True)
    torch.testing.assert_close(out.unique(), torch.tensor([-1.5, -0.5, 0.5, 1.5]) * 0.8)
    out.sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad[0], (weight[0].abs() <= 1.6).float())
    with pytest.raises(ValueError, match="2 bits"):
        quantize_weight(weight, scale, 4, centered=True)


def test_weight_scale_stays_positive() -> None:
    out = quantize_weight(torch.ones(2, 3), torch.tensor([0.0, -0.5]), 4)
    assert torch.isfinite(out).all()
    torch.testing.assert_close(out[1], torch.full((3,), 1.0))


def test_forward_keeps_no_copy_of_the_weight() -> None:
    weight = torch.randn(64, 64, requires_grad=True)
    scale = torch.full((64,), 0.1, requires_grad=True)
    saved: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        quantize_weight(weight, scale, 4)
    new = {t.untyped_storage().data_ptr(): t.numel() for t in saved}
    new.pop(weight.untyped_storage().data_ptr(), None)
    assert sum(new.values()) <= 4 * 64  # scales and their shadows, never (64, 64)


def test_bits_without_a_quantizer_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"5 bits.*2, 3, 4, 6, 8"):
        require_bits(5)


def test_gradient_scale_is_that_of_lsq() -> None:
    assert gradient_scale(100, 7) == pytest.approx(1 / math.sqrt(700))
