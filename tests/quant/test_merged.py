"""The trainable layer against plain autograd, and what it keeps for backward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from hwnas.quant.merged import MergedWeight, TrainableLinear
from tests.quant.plain_quantizers import plain_activation, plain_weight

ROWS, COLUMNS, RANK, TOKENS = 24, 40, 3, 17
Tensors = dict[str, torch.Tensor]


def _tensors(w_bits: int, *, trained: bool = False, dtype: torch.dtype = torch.float32) -> Tensors:
    """A frozen (or trained) weight, a low-rank pair, scales, and an input."""
    rng = torch.Generator().manual_seed(w_bits)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng)

    found = {
        "x": draw(2, TOKENS, COLUMNS), "bias": draw(ROWS),
        "a": draw(RANK, COLUMNS) * 0.2, "b": draw(ROWS, RANK) * 0.2,
        "step": torch.rand(ROWS, generator=rng) * 2.0 ** (2 - w_bits) + 0.01,
        "range": torch.tensor([0.05, -2.0]), "weight": draw(ROWS, COLUMNS),
    }  # fmt: skip
    found = {name: t.to(dtype) for name, t in found.items()}
    names = [n for n in found if trained or n != "weight"]
    return {**found, **{n: found[n].requires_grad_() for n in names}}


def _ours(t: Tensors, w_bits: int, a_bits: int) -> TrainableLinear:
    pair = (t["a"], t["b"])
    sources = (t["weight"], *pair) if t["weight"].requires_grad else pair
    scale = None if w_bits == 32 else t["step"]
    merged = MergedWeight(lambda: t["weight"] + t["b"] @ t["a"], sources, scale, w_bits)
    input_range = None if a_bits == 32 else t["range"]
    return TrainableLinear(merged, t["bias"], input_range, a_bits, TOKENS * COLUMNS)


def _plain(t: Tensors, w_bits: int, a_bits: int) -> torch.Tensor:
    x, weight = t["x"], t["weight"] + t["b"] @ t["a"]
    if a_bits != 32:
        x = plain_activation(x, *t["range"], a_bits, TOKENS * COLUMNS)
    if w_bits != 32:
        weight = plain_weight(weight, t["step"], w_bits)
    return functional.linear(x, weight, t["bias"])


def _gradients(tensors: Tensors, y: torch.Tensor) -> Tensors:
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(9))
    y.backward(grad)
    return {name: t.grad for name, t in tensors.items() if t.grad is not None}


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize(("w_bits", "a_bits"), [(2, 8), (3, 3), (4, 32), (8, 4), (32, 8), (32, 32)])
def test_gradients_equal_plain_autograd(w_bits: int, a_bits: int, trained: bool) -> None:
    # In float32 a code of 200 leaves six digits of a rounding error: too few to compare.
    ours, plain = (_tensors(w_bits, trained=trained, dtype=torch.float64) for _ in range(2))
    y, expected = _ours(ours, w_bits, a_bits)(ours["x"]), _plain(plain, w_bits, a_bits)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    found, wanted = _gradients(ours, y), _gradients(plain, expected)
    assert found.keys() == wanted.keys()
    assert ("weight" in found) == trained
    for name, gradient in wanted.items():
        error = (found[name] - gradient).norm() / gradient.norm()
        assert float(error) <= 1e-5, name


def test_one_scale_for_the_whole_weight() -> None:
    ours, plain = _tensors(4), _tensors(4)
    for tensors in (ours, plain):
        tensors["step"] = torch.tensor([0.1]).requires_grad_()
    found = _gradients(ours, _ours(ours, 4, 8)(ours["x"]))
    wanted = _gradients(plain, _plain(plain, 4, 8))
    torch.testing.assert_close(found["step"], wanted["step"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("a_bits", [2, 8])
def test_a_frozen_range_gives_the_same_other_gradients(a_bits: int) -> None:
    trained, frozen = _tensors(4), _tensors(4)
    frozen["range"] = frozen["range"].detach()
    wanted = _gradients(trained, _ours(trained, 4, a_bits)(trained["x"]))
    found = _gradients(frozen, _ours(frozen, 4, a_bits)(frozen["x"]))
    assert "range" not in found
    assert all(torch.equal(found[name], wanted[name]) for name in found)


def _kept_bytes(run: Callable[[], torch.Tensor], own: Tensors) -> int:
    """Bytes of the storages that autograd keeps, those of `own` left out."""
    known = {t.untyped_storage().data_ptr() for t in own.values()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)  # so that no address is used twice
        return tensor

    alive: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        alive.append(run())
    return sum(kept.values())


def _large(tokens: int) -> Tensors:
    found = _tensors(4)
    shapes = {"x": (tokens, 768), "a": (8, 768), "b": (3072, 8), "weight": (3072, 768)}
    found |= {name: torch.randn(*shape) for name, shape in shapes.items()}
    found |= {"bias": torch.zeros(3072), "step": torch.full((3072,), 0.3)}
    return {n: t.detach().requires_grad_(n != "weight") for n, t in found.items()}


def test_nothing_of_the_weight_is_kept_for_backward() -> None:
    t = _large(tokens=4)
    weight_bytes = t["weight"].numel() * 4
    plain = _kept_bytes(lambda: _plain(t, 4, 8), t)
    assert plain > 3 * weight_bytes
    assert _kept_bytes(lambda: _ours(t, 4, 8)(t["x"]), t) <= 0.01 * plain


def test_an_input_of_a_frozen_range_is_kept_as_codes() -> None:
    t = _large(tokens=256)
    t["range"] = t["range"].detach()
    del t["x"]
    codes = 256 * 768
    x = torch.randn(256, 768)
    kept = _kept_bytes(lambda: _ours(t, 4, 8)(x.clone().requires_grad_()), t)
    assert codes <= kept <= 1.3 * codes


def test_products_are_bfloat16_under_autocast_and_codes_are_not() -> None:
    t = _tensors(4)
    exact = _ours(t, 4, 8)(t["x"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = _ours(t, 4, 8)(t["x"])
    assert y.dtype == torch.bfloat16
    assert float((y - exact).detach().norm() / exact.detach().norm()) < 1e-2
    wanted = _gradients(t, exact)
    again = _tensors(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = _ours(again, 4, 8)(again["x"])
        found = _gradients(again, y.float())
    for name, gradient in wanted.items():
        assert found[name].dtype == torch.float32
        assert float((found[name] - gradient).norm() / gradient.norm()) < 0.05, name


def test_the_layer_follows_its_sources() -> None:
    t = _tensors(4)
    layer = _ours(t, 4, 8)
    before = layer(t["x"])
    with torch.no_grad():
        t["b"].zero_()
    assert not torch.equal(layer(t["x"]), before)
    whole = replace(layer, weight=replace(layer.weight, scale=None, bits=32), input_range=None)
    torch.testing.assert_close(whole(t["x"]), functional.linear(t["x"], t["weight"], t["bias"]))
