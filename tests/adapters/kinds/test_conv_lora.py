"""Conv-LoRA: experts of several scales, a noisy gate, and the balance between them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from hwnas.adapters import MatrixSlice, NotFoldable
from hwnas.adapters.kinds.conv_lora import ConvLoraAdapter
from hwnas.errors import ConfigError
from hwnas.testing.adapters import check_adapter

WHOLE = MatrixSlice(16, 24)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(**options: Any) -> ConvLoraAdapter:
    """An adapter all of whose parameters have moved."""
    adapter = ConvLoraAdapter(WHOLE, rng=rng(), **options)
    with torch.no_grad():
        for p in adapter.parameters():
            p.add_(torch.randn(p.shape, generator=rng(1)), alpha=0.3)
    return adapter


def images(n: int = 5, side: int = 6) -> torch.Tensor:
    return torch.randn(n, side, side, 24, generator=rng(5))


@pytest.mark.parametrize("options", [{}, {"experts": 3, "rank": 4, "alpha": 8.0}])
def test_contract(options: dict[str, Any]) -> None:
    assert check_adapter(ConvLoraAdapter, **options) == []


def test_gathering_equals_the_sum_over_one_hot_gates() -> None:
    adapter = made(experts=4).eval()
    found = adapter.branch(images(), WHOLE)
    z = images() @ adapter.A.t()
    maps = z.permute(0, 3, 1, 2)
    gates = functional.one_hot((maps.mean(dim=(2, 3)) @ adapter.gate.t()).argmax(dim=1), 4)
    assert len(set(gates.argmax(dim=1).tolist())) > 1
    total = torch.zeros_like(maps)
    for m in range(4):
        size = 6 * (m + 1)
        large = functional.interpolate(maps, size=(size, size), mode="bicubic") if m else maps
        y = functional.conv2d(large, adapter.kernels[m], adapter.biases[m], padding=1)
        y = functional.gelu(y)
        y = functional.interpolate(y, size=(6, 6), mode="bicubic") if m else y
        total = total + gates[:, m, None, None, None] * y
    expected = (z + total.permute(0, 2, 3, 1)) @ adapter.B.t() * (32 / 3)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_each_image_chooses_alone() -> None:
    adapter = made().eval()
    together = adapter.branch(images(), WHOLE)
    alone = torch.cat([adapter.branch(x[None], WHOLE) for x in images()])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_the_gate_learns_from_the_balance_alone() -> None:
    torch.manual_seed(0)
    adapter = ConvLoraAdapter(WHOLE, rng=rng())
    with torch.no_grad():
        adapter.B.normal_(generator=rng(2))
    adapter.branch(images(), WHOLE).square().sum().backward(retain_graph=True)
    assert adapter.gate.grad is None
    assert adapter.kernels.grad is not None
    loss = adapter.auxiliary_loss()
    assert loss is not None
    loss.backward()
    assert adapter.gate.grad is not None
    assert adapter.gate.grad.any()
    assert adapter.auxiliary_loss() is None


def test_an_uneven_gate_costs_more() -> None:
    adapter = ConvLoraAdapter(WHOLE, rng=rng())
    losses = []
    for slope in (0.0, 20.0):
        torch.manual_seed(0)
        with torch.no_grad():
            adapter.A.copy_(adapter.A.abs())
            adapter.gate.zero_()
            adapter.gate[2] = slope  # expert 3 wins where z is positive
        adapter.branch(images(64).abs(), WHOLE)
        loss = adapter.auxiliary_loss()
        assert loss is not None
        losses.append(float(loss.detach()))
    assert losses[1] > 5 * losses[0] > 0
    # all to one of eight: CV² is 8 for use and for load
    assert losses[1] == pytest.approx(1e-2 * 16, rel=0.05)


def test_evaluation_has_no_noise_and_no_loss() -> None:
    adapter = made().eval()
    assert torch.equal(adapter.branch(images(), WHOLE), adapter.branch(images(), WHOLE))
    assert adapter.auxiliary_loss() is None


def test_it_is_never_a_weight() -> None:
    with pytest.raises(NotFoldable, match="Keep the branch, or train nas_lora"):
        made().fold()


def test_groups_and_options() -> None:
    groups = made().trainable_groups()
    assert {name: len(found) for name, found in groups.items()} == {"weights": 4, "gate": 2}
    with pytest.raises(ConfigError, match="rank 3, 1 experts"):
        ConvLoraAdapter(WHOLE, rng=rng(), experts=1)
