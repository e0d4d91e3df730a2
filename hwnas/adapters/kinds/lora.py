"""Low-rank adapters (LoRA).

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021), section 4.1 and
`loralib/layers.py`: W + (alpha / r) B A, A Kaiming-uniform with a = sqrt(5), B = 0. The merge
happens before the quantizer, not beside it.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from hwnas.adapters.contract import MatrixSlice, WeightAdapter
from hwnas.errors import ConfigError

__all__ = ["LoraAdapter"]


class LoraAdapter(WeightAdapter):
    """Adds (alpha / rank) B A, with A (r, I) and B (O, r), of which columns and rows slice.

    `alpha` is the rank by default. `split_qkv` gives each of the three parts of a fused qkv its
    own pair: A is (3 r, I), and each third of B (O, r) meets its third of A only.
    """

    has_product = True

    def __init__(
        self,
        whole: MatrixSlice,
        *,
        rng: torch.Generator,
        rank: int = 8,
        alpha: float | None = None,
        split_qkv: bool = False,
    ) -> None:
        super().__init__(whole)
        if rank < 1:
            raise ConfigError(f"rank {rank}: a LoRA pair needs a rank of at least 1")
        self.rank, self.gamma = rank, (rank if alpha is None else alpha) / rank
        self.pairs = whole.parts if split_qkv else 1
        rows, columns = whole.shape
        bound = 1 / math.sqrt(columns)  # Kaiming-uniform with a = sqrt(5)
        drawn = torch.rand(self.pairs * rank, columns, generator=rng) * 2 - 1
        self.A = nn.Parameter(drawn * bound)
        self.B = nn.Parameter(torch.zeros(rows, rank))

    def delta(self, part: MatrixSlice) -> torch.Tensor:
        """(alpha / rank) B A of the active rows and columns."""
        a, b = part.columns(self.A), part.rows(self.B)
        if self.pairs == 1:
            return (b @ a) * self.gamma
        a = a.view(self.pairs, self.rank, -1)
        b = b.view(self.pairs, -1, self.rank)
        return (b @ a).view(part.shape) * self.gamma

    def product(self, x: torch.Tensor, part: MatrixSlice) -> torch.Tensor:
        """(alpha / rank) B (A x), by way of r numbers instead of an O x I matrix."""
        a, b = part.columns(self.A), part.rows(self.B)
        z = x @ a.t()
        if self.pairs > 1:
            z = z.view(*z.shape[:-1], self.pairs, self.rank)
            y = torch.einsum("...pr,por->...po", z, b.view(self.pairs, -1, self.rank))
            return y.flatten(-2) * self.gamma
        return (z @ b.t()) * self.gamma
