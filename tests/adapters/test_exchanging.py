"""Every way to exchange adapters ends with the merged weights or their codes, and goes back."""

from __future__ import annotations

import pytest
import torch

from hwnas.adapters import Attached, attach, sparse_deltas, weight_writes
from hwnas.adapters.exchanging import (
    Exchange,
    Pairs,
    Recomputed,
    Replaced,
    SparselyWritten,
    Subtracted,
    SummedToCopy,
)
from hwnas.adapters.kinds.lora import LoraAdapter
from hwnas.quant.linear import integer_codes
from hwnas.quant.ranges import weight_scales
from tests.adapters.tiny_sam import shake, tiny_sam

Tensors = dict[str, torch.Tensor]
BITS = 4


@pytest.fixture(scope="module")
def two() -> Attached:
    """LoRA adapters a and b, SHiRA adapters c and d."""
    attached = attach(tiny_sam(), "lora", name="a", rank=2, alpha=3.0)
    attached.add("lora", name="b", rank=2, seed=1)
    for block, name in enumerate("cd"):
        attached.add("shira", name=name, density=0.05, block=block)
    attached.activate(*"abcd")
    shake(attached)
    attached.activate()
    return attached


def _merged(attached: Attached, *names: str) -> Tensors:
    return {p: layer.folded_weight(names).detach() for p, layer in attached.layers.items()}


def _pairs(attached: Attached) -> dict[str, Pairs]:
    found: dict[str, Pairs] = {}
    for name in "ab":
        own = {}
        for path, adapter in attached.adapters(name).items():
            assert isinstance(adapter, LoraAdapter)
            own[path] = (adapter.B.detach() * adapter.gamma, adapter.A.detach())
        found[name] = own
    return found


def _copy(tensors: Tensors) -> Tensors:
    return {path: tensor.clone() for path, tensor in tensors.items()}


def _goes_through(exchange: Exchange, held: Tensors, states: dict[str, Tensors]) -> None:
    """Through each state by its name, and back to that of no name."""
    for name in (*states, *reversed(states), ""):
        if name:
            exchange.enter(name)
        else:
            exchange.leave()
        for path, tensor in held.items():
            torch.testing.assert_close(tensor, states[name][path], rtol=0, atol=1e-6)


@pytest.mark.parametrize("way", ["subtracted", "copied", "sparse"])
def test_weights_are_the_merged_ones(two: Attached, way: str) -> None:
    base, names = _merged(two), "cd" if way == "sparse" else "ab"
    states = {"": base, **{name: _merged(two, name) for name in names}}
    held = _copy(base)
    if way == "sparse":
        writes = {n: weight_writes(base, sparse_deltas(two, n)) for n in names}
        exchange: Exchange = SparselyWritten(held, writes)
    elif way == "copied":
        exchange = SummedToCopy(held, base, _pairs(two))
    else:
        exchange = Subtracted(held, _pairs(two))
    assert not torch.equal(states[names[0]]["image_encoder.blocks.0.mlp.lin1"],
                           base["image_encoder.blocks.0.mlp.lin1"])  # fmt: skip
    _goes_through(exchange, held, states)


@pytest.mark.parametrize("way", ["recomputed", "replaced"])
def test_codes_are_those_of_the_merged_weights(two: Attached, way: str) -> None:
    base = _merged(two)
    scales = {path: weight_scales(weight, BITS) for path, weight in base.items()}
    pairs, states = _pairs(two), {}
    for name in ("", "a", "b"):
        # the same product as in the exchange, or a rounding might move a code
        weights = {
            p: torch.addmm(w, *pairs[name][p]) if name else w.clone() for p, w in base.items()
        }
        states[name] = {p: integer_codes(w, scales[p], BITS)[0] for p, w in weights.items()}
        for path, weight in _merged(two, *name).items():
            torch.testing.assert_close(weights[path], weight, rtol=0, atol=1e-6)
    held = _copy(states[""])
    if way == "recomputed":
        exchange: Exchange = Recomputed(held, base, pairs, scales, BITS)
    else:
        exchange = Replaced(held, _copy(states[""]), {n: states[n] for n in "ab"})
    assert not torch.equal(states["a"]["image_encoder.blocks.0.mlp.lin1"],
                           states["b"]["image_encoder.blocks.0.mlp.lin1"])  # fmt: skip
    _goes_through(exchange, held, states)
