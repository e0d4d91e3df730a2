"""Attention in training, a few heads at a time."""

from __future__ import annotations

import pytest
import torch

from hwnas.supernet import trainable_attention
from hwnas.supernet.trainable_attention import TrainableAttention


def _run(checkpoint: bool) -> tuple[torch.Tensor, ...]:
    rng = torch.Generator().manual_seed(0)
    qkv = torch.randn(2, 16, 72, generator=rng, dtype=torch.float64, requires_grad=True)
    height, width = (
        torch.randn(4, 4, 8, generator=rng, dtype=torch.float64).requires_grad_(True)
        for _ in range(2)
    )
    scales = torch.tensor([0.3, 0.3, 0.3, 0.05], dtype=torch.float64, requires_grad=True)
    attention = TrainableAttention(4, 3, 8, height, width, scales, 4, 2, checkpoint)
    out = attention(qkv)
    out.square().sum().backward()
    return out.detach(), *(x.grad for x in (qkv, height, width, scales))  # type: ignore[misc]


def test_heads_one_by_one_give_the_gradients_of_all_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together = _run(checkpoint=False)
    monkeypatch.setattr(trainable_attention, "_PIECE", 1)
    for one, other in zip(_run(checkpoint=True), together, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


def test_scores_of_one_head_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainable_attention, "_PIECE", 1)
    largest = 0

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        attention = TrainableAttention(
            4, 3, 8, torch.zeros(4, 4, 8), torch.zeros(4, 4, 8), None, 32, 2, checkpoint=True
        )
        attention(torch.randn(2, 16, 72, requires_grad=True))
    assert largest <= 2 * 16 * 72  # the input; all scores would be 2 * 3 * 16 * 16
