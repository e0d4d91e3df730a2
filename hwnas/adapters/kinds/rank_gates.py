"""Gates over the ranks of a FouRA adapter: one factor from 0 to 1 for each of them.

The paper's gate is known from summaries only (entropy, MLP, sigmoid, 0/1 mask); the layout here is
ours. A gate starts near 0.88, a logit of 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

__all__ = ["GATES", "RankGate", "StaticGate", "TokenEntropyGate"]

_START = 2.0


class RankGate(nn.Module):
    """Gives factors for (parts, ranks); `live` if they depend on what passes."""

    live = False

    def forward(self, sizes: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Factors (N, P, r) for sizes |z| (N, T, P, r); `real` (N, T) is false at padding."""
        raise NotImplementedError


class StaticGate(RankGate):
    """Learned logits (P, r)."""

    def __init__(self, parts: int, ranks: int, rng: torch.Generator) -> None:
        super().__init__()
        del rng
        self.logits = nn.Parameter(torch.full((parts, ranks), _START))

    def forward(self, sizes: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        del real
        return self.logits.sigmoid().expand(len(sizes), -1, -1)


class TokenEntropyGate(RankGate):
    """An MLP of how evenly each rank is spread over the tokens of an image, and of its mean.

    With p = softmax over tokens of |z|: entropy H = -sum p log p / log T, 0 to 1; logits are
    W2 gelu(W1 [H; mean |z|]) + c, for each of the parts on its own; W2 = 0 and c = 2 at first.
    """

    live = True

    def __init__(self, parts: int, ranks: int, rng: torch.Generator) -> None:
        super().__init__()
        drawn = torch.rand(parts, ranks, 2 * ranks, generator=rng) * 2 - 1
        self.first = nn.Parameter(drawn / math.sqrt(2 * ranks))
        self.second = nn.Parameter(torch.zeros(parts, ranks, ranks))
        self.bias = nn.Parameter(torch.full((parts, ranks), _START))

    def forward(self, sizes: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        hidden = ~real[:, :, None, None]
        tokens = real.sum(dim=1).clamp(min=1)[:, None, None]
        p = sizes.masked_fill(hidden, -torch.inf).softmax(dim=1)
        # a token that is left out has p = 0; an image of padding alone has none at all
        p = torch.nan_to_num(p)
        entropy = -torch.xlogy(p, p.clamp(min=1e-30)).sum(dim=1) / tokens.clamp(min=2).log()
        mean = sizes.masked_fill(hidden, 0).sum(dim=1) / tokens
        seen = torch.cat([entropy, mean], dim=-1)  # (N, P, 2r)
        inner = functional.gelu(torch.einsum("npk,prk->npr", seen, self.first))
        return (torch.einsum("npk,prk->npr", inner, self.second) + self.bias).sigmoid()


GATES: dict[str, Callable[[int, int, torch.Generator], RankGate] | None] = {
    "none": None,
    "static": StaticGate,
    "token_entropy_mlp": TokenEntropyGate,
}
