"""Magnitude and direction: the paper's equation, slices, and the fold into the quantizer."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hwnas.adapters import MatrixSlice, fold_magnitude, split_magnitude
from hwnas.adapters.kinds.dora import DoraAdapter
from hwnas.errors import ConfigError
from hwnas.quant.linear import integer_codes
from hwnas.quant.lsq import quantize_weight
from hwnas.quant.ranges import weight_scales
from hwnas.testing.adapters import check_adapter

QKV, PLAIN = MatrixSlice(8, 12, 3), MatrixSlice(20, 12)


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _weight(whole: MatrixSlice) -> torch.Tensor:
    return torch.randn(whole.shape, generator=_rng(3))


def _fitted(whole: MatrixSlice, **options: Any) -> DoraAdapter:
    adapter = DoraAdapter(whole, rng=_rng(), **options)
    adapter.fit(_weight(whole))
    return adapter


def _trained(whole: MatrixSlice, **options: Any) -> DoraAdapter:
    adapter = _fitted(whole, **options)
    with torch.no_grad():
        for p in adapter.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=_rng(1)))
    return adapter


@pytest.mark.parametrize("options", [{"rank": 3}, {"rank": 0}, {"rank": 2, "split_qkv": True}])
def test_contract(options: dict[str, Any]) -> None:
    assert check_adapter(DoraAdapter, **options) == []


def test_the_magnitude_starts_as_the_row_norms() -> None:
    adapter, weight = _fitted(PLAIN, rank=3), _weight(PLAIN)
    torch.testing.assert_close(adapter.magnitude.data, weight.square().sum(dim=1).sqrt())
    assert torch.equal(adapter.transform(weight, PLAIN), weight)


@torch.no_grad()
def test_it_is_the_equation_of_the_paper() -> None:
    adapter, weight = _trained(PLAIN, rank=4, alpha=8), _weight(PLAIN)
    assert adapter.pair is not None
    moved = weight + 2 * adapter.pair.B @ adapter.pair.A
    expected = adapter.magnitude[:, None] * moved / moved.norm(dim=1, keepdim=True)
    found = adapter.transform(weight, PLAIN)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.norm(dim=1), adapter.magnitude.data.abs())


def test_the_norm_is_a_constant_in_backward() -> None:
    adapter, weight = _trained(PLAIN, rank=2), _weight(PLAIN)
    pair = adapter.pair
    assert pair is not None
    upstream = torch.randn(PLAIN.shape, generator=_rng(4))
    (adapter.transform(weight, PLAIN) * upstream).sum().backward()
    norm = (weight + pair.delta(PLAIN)).detach().norm(dim=1)
    # Equation 11 for the direction, equation 7 for the magnitude.
    direction = (adapter.magnitude.detach() / norm)[:, None] * upstream
    torch.testing.assert_close(pair.B.grad, direction @ pair.A.detach().t(), rtol=1e-4, atol=1e-5)
    along = (upstream * (weight + pair.delta(PLAIN)).detach()).sum(dim=1) / norm
    torch.testing.assert_close(adapter.magnitude.grad, along, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("whole", "part"), [(QKV, MatrixSlice(5, 7, 3)), (PLAIN, MatrixSlice(9, 10))]
)
def test_a_fresh_one_changes_no_slice_either(whole: MatrixSlice, part: MatrixSlice) -> None:
    sliced = part.matrix(_weight(whole))
    assert torch.equal(_fitted(whole, rank=3).transform(sliced, part), sliced)


def test_gains_of_two_adapters_multiply() -> None:
    one, two, weight = _fitted(PLAIN, rank=0), _fitted(PLAIN, rank=0), _weight(PLAIN)
    with torch.no_grad():
        one.magnitude.mul_(2)
        two.magnitude.mul_(3)
    found = two.transform(one.transform(weight, PLAIN), PLAIN)
    torch.testing.assert_close(found, 6 * weight)


def test_a_row_of_zeros_stays_one() -> None:
    weight = _weight(PLAIN)
    weight[3] = 0
    adapter = DoraAdapter(PLAIN, rng=_rng(), rank=2)
    adapter.fit(weight)
    assert torch.equal(adapter.transform(weight, PLAIN), weight)


def test_groups_tell_the_magnitude_apart() -> None:
    assert {n: len(g) for n, g in _fitted(QKV, rank=2).trainable_groups().items()} == {
        "weights": 2, "magnitude": 1,
    }  # fmt: skip
    assert list(_fitted(QKV, rank=0).trainable_groups()) == ["magnitude"]
    assert list(_fitted(QKV, rank=2, train_magnitude=False).trainable_groups()) == ["weights"]
    with pytest.raises(ConfigError, match="nothing is left to train"):
        _fitted(QKV, rank=0, train_magnitude=False)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@torch.no_grad()
def test_the_magnitude_folds_into_the_scale(bits: int) -> None:
    """Q(m D) = m Q(D): the same integers, and a scale m times as large."""
    adapter, weight = _trained(PLAIN, rank=4), _weight(PLAIN)
    merged = adapter.transform(weight, PLAIN)
    magnitude, direction = split_magnitude(merged)
    torch.testing.assert_close(magnitude[:, None] * direction, merged)
    scale = weight_scales(direction, bits)
    folded = fold_magnitude(scale, magnitude)
    torch.testing.assert_close(weight_scales(merged, bits), folded)
    codes, _ = integer_codes(direction, scale, bits)
    assert torch.equal(codes, integer_codes(merged, folded, bits)[0])
    found = quantize_weight(merged, folded, bits)
    torch.testing.assert_close(found, magnitude[:, None] * quantize_weight(direction, scale, bits))
    # another magnitude, such as that of another bit-width, over the same integers
    twice = quantize_weight(2 * merged, fold_magnitude(scale, 2 * magnitude), bits)
    torch.testing.assert_close(twice, 2.0 * codes * folded[:, None])


def test_what_cannot_be_folded_is_said() -> None:
    with pytest.raises(ConfigError, match=r"1 magnitudes are not positive"):
        fold_magnitude(torch.ones(3), torch.tensor([1.0, -1.0, 2.0]))
    with pytest.raises(ConfigError, match=r"one number for each output channel"):
        fold_magnitude(torch.ones(1), torch.ones(3))
