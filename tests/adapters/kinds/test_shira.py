"""Sparse adapters: exact masks by slice, and what they add."""

from __future__ import annotations

import functools
import itertools
from fractions import Fraction
from typing import Any

import pytest
import torch

from hwnas.adapters import MatrixSlice, attach, mean_gradients
from hwnas.adapters.kinds.shira import ShiraAdapter, ShiraDoraAdapter
from hwnas.adapters.kinds.shira_masks import MASKS, entry_count, mask_entries
from hwnas.adapters.kinds.sparse_entries import SparseDelta
from hwnas.errors import ConfigError
from hwnas.supernet.sam_model import encode
from hwnas.testing.adapters import check_adapter
from tests.adapters.tiny_sam import shake, some_images, tiny_sam

QKV, WIDE, TALL = MatrixSlice(16, 24, 3), MatrixSlice(12, 40), MatrixSlice(40, 12)
every_mask = pytest.mark.parametrize("mask", MASKS)


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _weight(whole: MatrixSlice, seed: int = 3) -> torch.Tensor:
    return torch.randn(whole.shape, generator=_rng(seed))


def _fitted(whole: MatrixSlice, kind: Any = ShiraAdapter, **options: Any) -> Any:
    adapter = kind(whole, rng=_rng(), **options)
    adapter.fit(_weight(whole), _weight(whole, 4).abs())
    return adapter


def _trained(whole: MatrixSlice, **options: Any) -> ShiraAdapter:
    adapter: ShiraAdapter = _fitted(whole, **options)
    with torch.no_grad():
        adapter.values.normal_(generator=_rng(1))
    return adapter


def _mask(adapter: ShiraAdapter) -> torch.Tensor:
    mask = torch.zeros(adapter.whole.shape, dtype=torch.bool)
    mask.view(-1)[adapter.chosen.flat()] = True
    return mask


@every_mask
def test_contract(mask: str) -> None:
    assert check_adapter(ShiraAdapter, density=0.1, mask=mask) == []


def test_contract_with_dora() -> None:
    assert check_adapter(ShiraDoraAdapter, density=0.1, rank=3) == []


@pytest.mark.parametrize("density", [0.01, 0.02, 0.29, 1.0])
@pytest.mark.parametrize("whole", [QKV, WIDE, TALL], ids=["qkv", "wide", "tall"])
@every_mask
def test_each_slice_has_exactly_its_share(mask: str, whole: MatrixSlice, density: float) -> None:
    adapter = _fitted(whole, density=density, mask=mask)
    expected = int(Fraction(str(density)) * whole.out * whole.inp)
    found = _mask(adapter).view(whole.parts, -1).sum(dim=1)
    assert found.tolist() == [expected] * whole.parts
    assert adapter.delta(whole).count_nonzero() == 0
    assert _trained(whole, density=density, mask=mask).delta(whole).count_nonzero() == (
        expected * whole.parts
    )


def test_a_share_is_that_of_the_decimal_number() -> None:
    assert int(0.29 * 100) == 28  # which binary fractions make of 29
    assert entry_count(0.29, 10, 10) == 29
    for density in (0.0, -0.1, 0.001, 1.1):
        with pytest.raises(ConfigError, match=r"expected at least one"):
            entry_count(density, 10, 10)


def test_ranked_masks_take_the_largest_scores() -> None:
    weight, gradient = _weight(WIDE), _weight(WIDE, 4).abs()
    scores = {"magnitude": weight.abs(), "gradient": gradient, "snip": (weight * gradient).abs()}
    for mask, score in scores.items():
        chosen = _mask(_fitted(WIDE, density=0.05, mask=mask))
        assert score[chosen].min() >= score[~chosen].max()


def test_struct_has_the_diagonal_of_each_slice_and_whole_rows() -> None:
    adapter = _trained(QKV, density=0.25, mask="struct")  # 96 of 384 entries
    for part, delta in zip(
        _mask(adapter).view(3, 16, 24), adapter.delta(QKV).view(3, 16, 24), strict=True
    ):
        assert part.diagonal().all()
        assert part.all(dim=1).sum() == 3  # 16 + 3 * 23 = 85; 11 more lie in a fourth row
        assert sorted(part.sum(dim=1).tolist()) == [1] * 12 + [12, 24, 24, 24]
        assert torch.linalg.matrix_rank(delta) == 16


@every_mask
def test_blocks_share_no_entry(mask: str) -> None:
    masks = [_mask(_fitted(QKV, density=0.1, mask=mask, block=b)) for b in range(3)]
    assert (torch.stack(masks).sum(dim=0) <= 1).all()
    assert {int(m.sum()) for m in masks} == {3 * 38}
    with pytest.raises(ConfigError, match=r"blocks 0 to 9"):
        _fitted(QKV, density=0.1, mask=mask, block=10)


def test_parts_without_entries_stay_as_they_are() -> None:
    mask = _mask(_fitted(QKV, density=0.1, slices="qk")).view(3, -1)
    assert mask.sum(dim=1).tolist() == [38, 38, 0]
    assert _mask(_fitted(WIDE, density=0.1, slices="q")).sum() == 48
    with pytest.raises(ConfigError, match=r"slices 'qo'"):
        _fitted(QKV, slices="qo")


def test_layers_of_one_shape_have_masks_of_their_own() -> None:
    attached = attach(tiny_sam(), "shira", density=0.02, mask="random")
    masks = [a.chosen.flat() for p, a in attached.adapters("default").items() if "proj" in p]
    assert len(masks) == 3
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(masks))


@every_mask
def test_the_delta_of_a_slice_is_the_slice_of_the_delta(mask: str) -> None:
    adapter, part = _trained(QKV, density=0.2, mask=mask), MatrixSlice(9, 20, 3)
    assert torch.equal(adapter.delta(part), part.matrix(adapter.delta(QKV)))


def test_merging_changes_the_named_entries_and_no_other() -> None:
    attached = attach(tiny_sam(), "shira", density=0.02)
    shake(attached)
    for layer in attached.layers.values():
        changed = layer.effective_weight() != layer.weight
        assert torch.equal(changed, _mask(layer.adapter("default")))


def test_only_masks_by_gradient_ask_for_one() -> None:
    for mask in MASKS:
        asks = ShiraAdapter(WIDE, rng=_rng(), mask=mask, density=0.1).wants_gradient
        assert asks == (mask in ("gradient", "snip"))
    with pytest.raises(ConfigError, match=r"shira chooses by gradients; .*mean_gradients"):
        attach(tiny_sam(), "shira", mask="snip")
    with pytest.raises(ConfigError, match="mask 'wm' is none of"):
        attach(tiny_sam(), "shira", mask="wm")
    with pytest.raises(ConfigError, match=r"got one of \(1, 1\)"):
        mask_entries("snip", _weight(WIDE), 3, rng=_rng(), gradient=torch.ones(1, 1))


def test_entries_of_another_matrix_are_refused() -> None:
    delta = SparseDelta(torch.tensor([0]), torch.ones(1), (2, 2))
    with pytest.raises(ConfigError, match=r"\(2, 2\) matrix for a layer of"):
        _fitted(WIDE).assign(delta)


def test_with_dora_it_gives_the_masked_entries_doras_weight() -> None:
    weight, adapter = _weight(QKV), _fitted(QKV, ShiraDoraAdapter, density=0.1, rank=3)
    with torch.no_grad():
        for p in adapter.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=_rng(1)))
        dense, found = adapter.dora.transform(weight, QKV), adapter.transform(weight, QKV)
        mask = _mask(adapter)
        assert torch.equal(found, torch.where(mask, dense, weight))
        torch.testing.assert_close(weight + adapter.sparse(weight).dense(), found)
        part = MatrixSlice(9, 20, 3)
        sliced = adapter.transform(part.matrix(weight), part)
        assert torch.equal(sliced != part.matrix(weight), part.matrix(mask))


def test_mean_gradients_are_means_of_absolute_values() -> None:
    sam, images = tiny_sam(), some_images(3)
    targets = r"image_encoder\.blocks\.\d+\.mlp\.lin1"
    batches = [images[:1], images[1:2], images[2:]]
    losses = (encode(sam, batch).square().mean() for batch in batches)
    found = mean_gradients(sam, losses, targets=targets)
    assert len(found) == 3
    weight = sam.image_encoder.blocks[1].mlp.lin1.weight
    singles = [
        torch.autograd.grad(encode(sam, batch).square().mean(), weight)[0] for batch in batches
    ]
    expected = torch.stack([g.abs() for g in singles]).mean(dim=0)
    torch.testing.assert_close(found["image_encoder.blocks.1.mlp.lin1"], expected)
    assert not torch.equal(expected, torch.stack(singles).mean(dim=0).abs())
    assert all(p.grad is None for p in sam.parameters())
    attached = attach(sam, "lora", rank=2)
    shake(attached)
    again = mean_gradients(
        attached, (encode(sam, batch).square().mean() for batch in batches), targets=targets
    )
    torch.testing.assert_close(again["image_encoder.blocks.1.mlp.lin1"], expected)
    assert attached.active == ("default",)
    assert not any(layer.weight.requires_grad for layer in attached.layers.values())


def test_mean_gradients_say_what_is_missing() -> None:
    sam, images = tiny_sam(), some_images()
    with pytest.raises(ConfigError, match="no loss came"):
        mean_gradients(sam, [])
    with torch.no_grad():
        finished = encode(sam, images).square().mean()
    with pytest.raises(ConfigError, match="give a generator, not a list"):
        mean_gradients(sam, [finished])
    other = (p.square().sum() for p in (sam.image_encoder.blocks[0].attn.qkv.weight,))
    with pytest.raises(ConfigError, match="does not depend on 11 of 12 layers"):
        mean_gradients(sam, other)


def test_the_entries_of_a_loaded_state_may_be_of_any_number() -> None:
    adapter = _trained(QKV, density=0.1)
    other = ShiraAdapter(QKV, rng=_rng(9), mask="given")
    assert other.delta(QKV).count_nonzero() == 0
    other.load_state_dict(adapter.state_dict())
    assert torch.equal(other.delta(QKV), adapter.delta(QKV))
    with pytest.raises(RuntimeError, match="size mismatch"):
        functools.partial(_fitted(QKV, density=0.2).load_state_dict, adapter.state_dict())()
