"""Rows that adapters cannot touch: in the product, in the merged weight, beside a branch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hwnas.adapters import AdaptedLinear, LayerQuantizer, attach, merge

INPUT, OUTPUT = 12, 18
ROWS = torch.arange(OUTPUT) % 3 == 1


def layer_with(kind: str, *, quantized: bool) -> tuple[Any, AdaptedLinear]:
    """A layer with an adapter that has been moved, and what holds it."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"density": 0.5} if kind == "shira" else {}
    attached = attach(nn.Sequential(nn.Linear(INPUT, OUTPUT)), kind, targets="0", **options)
    layer = attached.layers["0"]
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in layer.adapters.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=rng))
    if quantized:
        layer.quantizer = LayerQuantizer.of(layer.weight, maps(), 4, 8)
    layer.eval()
    return attached, layer


def maps() -> torch.Tensor:
    return torch.randn(2, 4, 4, INPUT, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("kind", ["lora", "dora", "shira", "conv_lora", "nas_lora"])
def test_frozen_outputs_are_the_base_and_others_are_not(kind: str, quantized: bool) -> None:
    attached, layer = layer_with(kind, quantized=quantized)
    with torch.no_grad():
        moved = layer(maps())
        with attached.disabled():
            base = layer(maps())
        layer.freeze_rows(ROWS)
        found = layer(maps())
    assert torch.equal(found[..., ROWS], base[..., ROWS])
    torch.testing.assert_close(found[..., ~ROWS], moved[..., ~ROWS], rtol=1e-6, atol=1e-6)
    assert not torch.allclose(moved[..., ROWS], base[..., ROWS], atol=1e-2)


@pytest.mark.parametrize("quantized", [False, True])
def test_no_gradient_comes_from_frozen_rows(quantized: bool) -> None:
    _, layer = layer_with("lora", quantized=quantized)
    layer.freeze_rows(ROWS)
    layer(maps()).square().sum().backward()
    gradient = layer.adapter("default").B.grad
    assert not gradient[ROWS].any()
    assert gradient[~ROWS].any(dim=1).all()


def test_held_rows_are_what_they_were_and_stay_in_a_merge() -> None:
    attached, layer = layer_with("lora", quantized=False)
    before = layer.effective_weight().detach().clone()
    layer.freeze_rows(ROWS, held=before)
    with torch.no_grad():
        layer.adapter("default").A.add_(1.0)
    after = layer.effective_weight()
    assert torch.equal(after[ROWS], before[ROWS])
    assert not torch.equal(after[~ROWS], before[~ROWS])
    assert torch.equal(attached.model.state_dict()["0.frozen"], ROWS)
    with torch.no_grad():
        expected = layer(maps())
        torch.testing.assert_close(merge(attached)(maps()), expected, rtol=1e-5, atol=1e-5)
