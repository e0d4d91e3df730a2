"""Sparse adapters written into weights and codes, taken out again, and fused."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from hwnas.adapters import (
    AdapterSwitch,
    Attached,
    attach,
    code_writes,
    fuse,
    merge,
    overlaps,
    sparse_deltas,
    weight_writes,
)
from hwnas.adapters.fusing import sum_deltas
from hwnas.adapters.kinds.shira import ShiraAdapter
from hwnas.adapters.kinds.sparse_entries import SparseDelta
from hwnas.errors import ConfigError
from hwnas.quant.linear import integer_codes
from hwnas.quant.lsq import quantize_weight
from hwnas.quant.ranges import weight_scales
from hwnas.supernet.sam_model import encode
from tests.adapters.tiny_sam import quantize, shake, some_images, tiny_sam

DENSITY = 0.02


@pytest.fixture
def two() -> Attached:
    """A model with trained adapters a and b, of magnitude masks that do not overlap."""
    attached = attach(tiny_sam(), "shira", name="a", density=DENSITY)
    shake(attached, 1, 0.5)
    attached.add("shira", name="b", density=DENSITY, block=1)
    shake(attached, 2, 0.5)
    return attached


def _bits(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {path: w.detach().clone().view(torch.int32) for path, w in weights.items()}


def _weights(attached: Attached) -> dict[str, torch.Tensor]:
    return {path: layer.weight for path, layer in attached.layers.items()}


def test_swapped_in_the_weights_are_the_merged_ones_and_swapped_out_the_old(two: Attached) -> None:
    images, weights = some_images(), _weights(two)
    writes = {n: weight_writes(weights, sparse_deltas(two, n)) for n in "ab"}
    merged = {n: encode(merge(copy.deepcopy(two), n), images) for n in "ab"}
    before, switch = _bits(weights), AdapterSwitch(weights)
    two.activate()
    with torch.no_grad():
        base = encode(two.model, images)
        for name in "abbaab":
            switch.swap_in(name, writes[name])
            assert switch.present == name
            assert torch.equal(encode(two.model, images), merged[name])
            changed = {p: int((w != before[p]).sum()) for p, w in _bits(weights).items()}
            assert changed == {p: len(d.entries) for p, d in sparse_deltas(two, name).items()}
        switch.swap_out()
        assert switch.present is None
        switch.swap_out()
        assert all(torch.equal(w, before[path]) for path, w in _bits(weights).items())
        assert torch.equal(encode(two.model, images), base)


def test_taking_out_is_exact_where_subtracting_is_not() -> None:
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 64, generator=rng) * 1e-4
    delta = SparseDelta(torch.arange(100), torch.randn(100, generator=rng), (64, 64))
    before = weight.clone()
    subtracted = (weight.view(-1)[:100] + delta.values) - delta.values
    assert not torch.equal(subtracted, weight.view(-1)[:100])
    switch = AdapterSwitch({"layer": weight})
    switch.swap_in("a", weight_writes({"layer": weight}, {"layer": delta}))
    switch.swap_out()
    assert torch.equal(weight.view(torch.int32), before.view(torch.int32))


def test_the_strength_scales_what_is_written(two: Attached) -> None:
    weights, deltas = _weights(two), sparse_deltas(two, "a")
    path, delta = next(iter(deltas.items()))
    half = weight_writes(weights, deltas, strength=0.5)[path]
    expected = weights[path].detach().view(-1)[delta.entries] + 0.5 * delta.values
    assert torch.equal(half.values, expected)


@pytest.mark.parametrize("bits", [4, 8])
def test_codes_are_switched_as_the_merged_weight_is_quantized(two: Attached, bits: int) -> None:
    grids, weights = quantize(two, bits), _weights(two)
    before = {p: integer_codes(w.detach(), grids[p].scale, bits)[0] for p, w in weights.items()}
    codes = {path: code.clone() for path, code in before.items()}
    switch = AdapterSwitch(codes)
    for name in "ab":
        two.activate(name)
        switch.swap_in(name, code_writes(weights, sparse_deltas(two, name), dict(grids)))
        for path, layer in two.layers.items():
            expected = quantize_weight(layer.effective_weight(), grids[path].scale, bits)
            found = codes[path] * grids[path].scale[:, None]
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    switch.swap_out()
    assert all(torch.equal(code, before[path]) for path, code in codes.items())


@pytest.mark.parametrize("mask", ["magnitude", "random"])
@pytest.mark.parametrize("bits", [4, 8])
@torch.no_grad()
def test_frozen_scales_change_no_more_codes_than_entries(mask: str, bits: int) -> None:
    """Recomputed from the merged weight, scales change codes all over the rows (spec 4.7)."""
    attached = attach(tiny_sam(), "shira", density=DENSITY, mask=mask)
    weights, changed, recomputed, total = _weights(attached), 0, 0, 0
    shake(attached, 3, 0.5 * float(next(iter(weights.values())).std()))
    grids = quantize(attached, bits)
    writes = code_writes(weights, sparse_deltas(attached, "default"), dict(grids))
    for path, layer in attached.layers.items():
        frozen, merged = grids[path].scale, layer.effective_weight()
        old = integer_codes(layer.weight.clone(), frozen, bits)[0]
        new = integer_codes(merged.clone(), frozen, bits)[0]
        assert int((old != new).sum()) == len(writes[path].entries)
        changed += len(writes[path].entries)
        other = integer_codes(merged.clone(), weight_scales(merged, bits), bits)[0]
        recomputed += int((old != other).sum())
        total += old.numel()
    assert changed / total <= DENSITY
    assert recomputed / total > 3 * DENSITY


def test_scales_that_move_are_refused(two: Attached) -> None:
    weights, deltas = _weights(two), sparse_deltas(two, "a")
    with pytest.raises(ConfigError, match="has no fixed scales"):
        code_writes(weights, deltas, {})
    grids = quantize(two, 4)
    next(iter(grids.values())).scale.requires_grad_(True)
    with pytest.raises(ConfigError, match=r"still learned.*freeze them"):
        code_writes(weights, deltas, dict(grids))


def test_what_is_not_sparse_or_does_not_fit_is_refused(two: Attached) -> None:
    two.add("lora", name="l", rank=2)
    with pytest.raises(ConfigError, match=r"'l' is lora, .*merge it instead"):
        sparse_deltas(two, "l")
    with pytest.raises(ConfigError, match="no adapter c"):
        sparse_deltas(two, "c")
    writes = weight_writes(_weights(two), sparse_deltas(two, "a"))
    codes = {path: w.detach().to(torch.int8) for path, w in _weights(two).items()}
    switch = AdapterSwitch(codes)
    with pytest.raises(ConfigError, match=r"torch.float32 for .*, expected torch.int8"):
        switch.swap_in("a", writes)
    with pytest.raises(ConfigError, match="no such layer"):
        AdapterSwitch({}).swap_in("a", writes)
    assert switch.present is None


def test_fused_adapters_add_up_as_active_ones_do(two: Attached) -> None:
    images = some_images()
    two.activate("a", "b")
    with torch.no_grad():
        both = encode(two.model, images)
        fuse(two, "a", "b", into="ab")
        assert two.active == ("ab",)
        torch.testing.assert_close(encode(two.model, images), both, rtol=1e-5, atol=1e-5)
    fused = two.adapters("ab")
    for path, one in two.adapters("a").items():
        assert len(fused[path].chosen) == len(one.chosen) * 2
    fuse(two, "a", "b", into="scaled", strengths=(2.0, 0.5))
    path = "image_encoder.blocks.1.mlp.lin2"
    layer = two.layers[path]
    one, other, found = (layer.adapter(n).delta(layer.whole) for n in ("a", "b", "scaled"))
    torch.testing.assert_close(found, 2 * one + 0.5 * other)
    with pytest.raises(ConfigError, match="2 adapters with 1 strengths"):
        fuse(two, "a", "b", into="c", strengths=(1.0,))


def test_fusing_makes_a_dora_an_ordinary_sparse_adapter() -> None:
    attached, images = attach(tiny_sam(), "shira_dora", density=DENSITY, rank=4), some_images()
    shake(attached)
    with torch.no_grad():
        own = encode(attached.model, images)
        fuse(attached, "default", into="plain")
        found = encode(attached.model, images)
    torch.testing.assert_close(found, own, rtol=1e-5, atol=1e-5)
    adapters = attached.adapters("plain").values()
    assert all(isinstance(adapter, ShiraAdapter) for adapter in adapters)


def _delta(rows: int, columns: int, entries: list[int], seed: int) -> SparseDelta:
    values = torch.randn(len(entries), generator=torch.Generator().manual_seed(seed))
    return SparseDelta.of(torch.tensor(entries), values, (rows, columns))


def test_shared_entries_add_up() -> None:
    total = sum_deltas([_delta(4, 5, [0, 3, 7], 0), _delta(4, 5, [3, 7, 19], 1)], [1.0, 2.0])
    one, two = _delta(4, 5, [0, 3, 7], 0).dense(), _delta(4, 5, [3, 7, 19], 1).dense()
    torch.testing.assert_close(total.dense(), one + 2 * two)
    assert total.entries.tolist() == [0, 3, 7, 19]


def test_overlap_is_that_of_dense_matrices(two: Attached) -> None:
    found = overlaps(two, "a", "b")
    assert list(found) == list(two.layers)
    for path, overlap in found.items():
        layer = two.layers[path]
        one, other = (layer.adapter(n).delta(layer.whole).detach().double() for n in "ab")
        product = (one.t() @ other).numpy()
        assert overlap.awom == pytest.approx(np.linalg.norm(product, 2), rel=1e-9)
        assert overlap.awor == pytest.approx((product == 0).mean())
        assert (overlap.shared, overlap.share) == (0, 0.0)
    same = overlaps(two, "a", "a")[path]
    assert same.shared == same.entries[0] == same.entries[1]


def test_struct_blocks_are_nearly_orthogonal_and_random_masks_less() -> None:
    """Lemma 4.5: of non-overlapping ones, the nonzeros of the product are at most the sum."""
    shares: dict[str, float] = {}
    for mask in ("struct", "random"):
        attached = attach(tiny_sam(), "shira", name="a", density=0.1, mask=mask)
        shake(attached, 1)
        attached.add("shira", name="b", density=0.1, mask=mask, block=1)
        shake(attached, 2)
        found = overlaps(attached, "a", "b")
        shares[mask] = found["image_encoder.blocks.0.attn.proj"].awor
    assert shares["struct"] >= 1 - 2 * 0.1
    assert shares["random"] < shares["struct"]


def test_a_large_matrix_takes_the_sparse_way_to_the_norm() -> None:
    attached = attach(
        torch.nn.Sequential(torch.nn.Linear(600, 40)), "shira", targets="0", name="a", density=0.02
    )
    shake(attached, 1)
    attached.add("shira", targets="0", name="b", density=0.02, mask="struct")
    shake(attached, 2)
    layer = attached.layers["0"]
    one, two = (layer.adapter(n).delta(layer.whole).detach().double() for n in "ab")
    expected = float(torch.linalg.matrix_norm(one.t() @ two, 2))
    assert overlaps(attached, "a", "b")["0"].awom == pytest.approx(expected, rel=1e-6)
