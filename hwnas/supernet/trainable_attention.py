"""The attention of `attention.py` in plain differentiable operations, for training.

It is also the slow twin that the fast one is tested against.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.checkpoint import checkpoint

from hwnas.quant.lsq import quantize_signed, quantize_unsigned

__all__ = ["TrainableAttention"]

_PIECE = 1 << 21  # scores: 8 MiB in float32


@dataclass(frozen=True)
class TrainableAttention:
    """qkv (B, S·S, 3·heads·head_dim) to (B, S·S, heads·head_dim).

    `height` and `width` are the tables of `by_pair`, quantized already where they are to be.
    `scales` (4,) belong to queries, keys, values and softmax output; None is floating point.
    `windows` is the number of regions of one image. With `checkpoint` heads are done a few at a
    time and run once more in backward, so that no more than `_PIECE` scores are held at once (or
    those of one head).
    """

    side: int
    heads: int
    head_dim: int
    height: torch.Tensor
    width: torch.Tensor
    scales: torch.Tensor | None
    bits: int
    windows: int
    checkpoint: bool = False

    def __call__(self, qkv: torch.Tensor) -> torch.Tensor:
        b, length, _ = qkv.shape
        q, k, v = qkv.view(b, length, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        if self.scales is not None:
            elements = self.windows * length * self.heads * self.head_dim
            q, k, v = (
                quantize_signed(x, scale, self.bits, elements=elements)
                for x, scale in zip((q, k, v), self.scales[:3], strict=True)
            )
        heads = self._heads_at_once(b, length)
        mixed = torch.cat(
            [
                self._mixed(*(x[:, i : i + heads] for x in (q, k, v)))
                for i in range(0, self.heads, heads)
            ],
            dim=1,
        )
        merged: torch.Tensor = mixed.transpose(1, 2).reshape(b, length, -1)
        return merged

    def _heads_at_once(self, b: int, length: int) -> int:
        if not self.checkpoint:
            return self.heads
        return max(1, min(self.heads, _PIECE // (b * length**2)))

    def _mixed(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        if not (self.checkpoint and torch.is_grad_enabled()):
            return self._attend(q, k, v)
        kept: torch.Tensor = checkpoint(
            self._attend, q, k, v, use_reentrant=False, preserve_rng_state=False
        )
        return kept

    def _attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Values mixed by the softmax output, all (B, some heads, S·S, head_dim)."""
        weights = self.probabilities(q, k)
        if self.scales is not None:
            # N of the gradient's scale counts all heads, however many are done at a time.
            elements = self.windows * self.heads * weights[0, 0].numel()
            weights = quantize_unsigned(weights, self.scales[3], self.bits, elements=elements)
        return weights @ v

    def probabilities(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """Softmax output (B, heads, S·S, S·S) of queries and keys (B, heads, S·S, head_dim)."""
        b, heads, length, _ = q.shape
        s = self.side
        grid = q.reshape(b, heads, s, s, self.head_dim)
        height = torch.einsum("bnhwc,hkc->bnhwk", grid, self.height)
        width = torch.einsum("bnhwc,wkc->bnhwk", grid, self.width)
        scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
        scores = scores.view(b, heads, s, s, s, s) + height[..., None] + width[..., None, :]
        weights: torch.Tensor = scores.view(b, heads, length, length).softmax(dim=-1)
        return weights
