"""Adapters in the supernet: merged inside the quantizer, at every slice, in every layout."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hwnas.quant.linear import integer_codes
from hwnas.supernet.encoder_weights import EncoderWeights
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.scale_table import weight_key
from hwnas.workload.sam_plan import EncoderPlan
from tests.supernet.adapted_models import adapted
from tests.supernet.elastic_models import (
    TINY,
    calibrated,
    mixed_plan,
    random_sam,
    relative_error,
    smooth_images,
)

LAYOUTS = ("shared", "selective", "multiplex")
LAYER = "blocks.2.lin1"


def _image() -> torch.Tensor:
    return smooth_images()[0][None]


def _uniform(bits: int) -> EncoderPlan:
    return EncoderPlan.uniform(
        TINY, resolution=64, w_bits=bits, a_bits=bits, attn_bits=32 if bits == 32 else 8
    )


def _mixed() -> EncoderPlan:
    return mixed_plan(resolution=64)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_fresh_adapter_changes_nothing(layout: str) -> None:
    net, plain = adapted(layout, trained=False), calibrated()
    for plan in (_mixed(), _uniform(32), _uniform(2)):
        assert torch.equal(net.embed(_image(), plan), plain.embed(_image(), plan))
    assert relative_error(
        net.encoder(_image(), _uniform(32)).detach(), plain.teacher(_image())
    ) <= 1e-5  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_activate_equals_subnet(layout: str) -> None:
    net = adapted(layout)
    for plan in (_mixed(), _uniform(32)):
        net.activate(plan)
        with torch.no_grad():
            assert torch.equal(net(_image()), net.subnet(plan)(_image()))


def _merged_by_hand(bits: int) -> tuple[SamSupernet, SamSupernet]:
    """A supernet with adapters, and one whose weights are W + delta of those bits."""
    net, plain = adapted("multiplex"), calibrated()
    bank, weights = net.encoder.adapters, EncoderWeights(plain.sam.image_encoder)
    assert bank is not None
    with torch.no_grad():
        for layer, whole in bank.layers.items():
            delta = bank.delta(layer, bits, bits, whole)
            assert delta is not None
            weights.weight(layer).add_(delta)
    return net, plain


@pytest.mark.parametrize("bits", [2, 4, 8, 32])
def test_merged_equals_separate_inside_the_quantizer(bits: int) -> None:
    net, merged = _merged_by_hand(bits)
    assert torch.equal(net.embed(_image(), _uniform(bits)), merged.embed(_image(), _uniform(bits)))
    other = 8 if bits == 2 else 2
    assert not torch.equal(
        net.embed(_image(), _uniform(other)), merged.embed(_image(), _uniform(other))
    )


def test_integer_codes_come_from_the_merged_weight() -> None:
    net = adapted("selective")
    bank = net.encoder.adapters
    assert bank is not None
    with torch.no_grad():
        found = net.encoder.view(_mixed()).blocks[1].lin1.weight  # 144 units at 8 bits
        weight = net.sam.image_encoder.blocks[2].mlp.lin1.weight
        delta = bank.adapter(LAYER, "b8").B @ bank.adapter(LAYER, "b8").A
        scale = net.encoder.scales[weight_key(LAYER, 8)]
        merged, plain = (_dequantized(w, scale) for w in (weight + delta, weight))
    # A weight next to a rounding boundary may fall to the other side.
    assert (found != merged[:144]).float().mean() < 1e-3
    assert (found != plain[:144]).float().mean() > 0.5
    torch.testing.assert_close(net.encoder.weight(LAYER, 8, 8), weight + delta)


def _dequantized(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    codes, step = integer_codes(weight, scale, 8)
    return codes * step[:, None]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_training_and_evaluation_see_the_same_network(layout: str) -> None:
    net = adapted(layout)
    for plan in (_uniform(32), replace(_uniform(8), blocks=_uniform(8).blocks[:1])):
        trained = net.encoder(_image(), plan).detach()
        # A code next to a rounding boundary may fall to the other side.
        assert relative_error(trained, net.embed(_image(), plan)) < 2e-3


def _touched(net: SamSupernet, bits: int) -> set[str]:
    """The paths that get a gradient at one uniform bit-width."""
    bank = net.encoder.adapters
    assert bank is not None
    bank.zero_grad()
    net.encoder(_image(), _uniform(bits)).square().mean().backward()
    found: set[str] = set()
    for layer in bank.layers:
        for path in bank.layout.every_path:
            grads = [p.grad for p in bank.adapter(layer, path).parameters()]
            assert len({g is None for g in grads}) == 1
            if grads[0] is not None:
                assert all(bool(g.any()) for g in grads if g is not None)
                found.add(path)
    return found


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("shared", {2: {"base"}, 8: {"base"}, 32: {"base"}}),
        ("selective", {3: {"b3"}, 8: {"b8"}, 32: {"b8"}}),
        ("multiplex", {2: {"base", "b2"}, 8: {"base"}, 32: {"base"}}),
    ],
)
def test_gradients_reach_the_active_paths_only(layout: str, expected: dict[int, set[str]]) -> None:
    net = adapted(layout)
    for bits, paths in expected.items():
        assert _touched(net, bits) == paths
    assert all(p.grad is None for n, p in net.sam.image_encoder.named_parameters() if p.dim() > 1)
    assert net.sam.image_encoder.blocks[0].norm1.weight.grad is not None


def test_the_base_can_be_kept_from_low_bits() -> None:
    net = adapted("multiplex", detach_base_low=True)
    assert _touched(net, 2) == {"b2"}
    assert _touched(net, 8) == {"base"}
    free = adapted("multiplex")
    assert torch.equal(net.embed(_image(), _uniform(2)), free.embed(_image(), _uniform(2)))


def test_dropped_rows_and_columns_get_no_gradient() -> None:
    net = adapted("shared")
    bank = net.encoder.adapters
    assert bank is not None
    net.encoder(_image(), _mixed()).square().mean().backward()
    qkv, lin2 = bank.adapter("blocks.1.qkv", "base"), bank.adapter("blocks.1.lin2", "base")
    rows = qkv.B.grad.view(3, 48, -1)  # block 1 keeps two heads of 16 channels
    assert bool(rows[:, :32].any(dim=-1).all())
    assert not rows[:, 32:].any()
    assert bool(lin2.A.grad[:, :96].any())
    assert not lin2.A.grad[:, 96:].any()


def test_prepared_weights_are_told_apart_by_path() -> None:
    net = adapted("selective", path_key="min")
    four = replace(_uniform(8), blocks=_with_inputs(4))
    with_eight, with_four = net.encoder.weight(LAYER, 8, 8), net.encoder.weight(LAYER, 8, 4)
    assert not torch.equal(with_eight, with_four)
    with torch.no_grad():
        layers = [net.encoder.view(plan).blocks[2].lin1.weight for plan in (_uniform(8), four)]
    assert not torch.equal(*layers)


def _with_inputs(a_bits: int) -> tuple[object, ...]:
    return tuple(replace(b, a_bits=(a_bits,) * 4) for b in _uniform(8).blocks)


def test_without_adapters_all_weights_train() -> None:
    net = calibrated()
    net.encoder(_image(), _uniform(4)).square().mean().backward()
    weight = net.sam.image_encoder.blocks[1].mlp.lin1.weight
    assert weight.grad is not None
    assert bool(weight.grad.any())
    assert SamSupernet(random_sam()).sam.image_encoder.pos_embed.requires_grad


@pytest.mark.parametrize("layout", ["multiplex", None])
def test_recomputing_blocks_gives_equal_gradients(layout: str | None) -> None:
    nets = [calibrated() if layout is None else adapted(layout) for _ in range(2)]
    nets[1].encoder.checkpoint = True
    for net in nets:
        net.encoder(_image(), _mixed()).square().mean().backward()
    for (name, a), (_, b) in zip(*(net.named_parameters() for net in nets), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        assert a.grad is None or torch.equal(a.grad, b.grad), name


def _kept_by_blocks(net: SamSupernet) -> int:
    sizes = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        net.encoder(_image(), _uniform(8))
    return sum(sizes)


def test_recomputing_blocks_keeps_less_for_backward() -> None:
    net = adapted("multiplex")
    whole = _kept_by_blocks(net)
    net.encoder.checkpoint = True
    assert _kept_by_blocks(net) < 0.3 * whole


def test_split_qkv_runs_in_the_supernet() -> None:
    net = adapted("multiplex", split_qkv=True)
    assert _touched(net, 2) == {"base", "b2"}
    net.activate(_mixed())
    with torch.no_grad():
        assert torch.equal(net(_image()), net.subnet(_mixed())(_image()))
