"""The attention of `attention.py` in plain differentiable operations, for training.

It is also the slow twin that the fast one is tested against.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hwnas.quant.lsq import quantize_signed, quantize_unsigned

__all__ = ["TrainableAttention"]


@dataclass(frozen=True)
class TrainableAttention:
    """qkv (B, S·S, 3·heads·head_dim) to (B, S·S, heads·head_dim).

    `height` and `width` are the tables of `by_pair`, quantized already where they are to be.
    `scales` (4,) belong to queries, keys, values and softmax output; None is floating point.
    `windows` is the number of regions of one image.
    """

    side: int
    heads: int
    head_dim: int
    height: torch.Tensor
    width: torch.Tensor
    scales: torch.Tensor | None
    bits: int
    windows: int

    def __call__(self, qkv: torch.Tensor) -> torch.Tensor:
        b, length, _ = qkv.shape
        q, k, v = qkv.view(b, length, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        if self.scales is not None:
            elements = self.windows * length * self.heads * self.head_dim
            q, k, v = (
                quantize_signed(x, scale, self.bits, elements=elements)
                for x, scale in zip((q, k, v), self.scales[:3], strict=True)
            )
        weights = self.probabilities(q, k)
        if self.scales is not None:
            elements = self.windows * weights[0].numel()
            weights = quantize_unsigned(weights, self.scales[3], self.bits, elements=elements)
        merged: torch.Tensor = (weights @ v).transpose(1, 2).reshape(b, length, -1)
        return merged

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
