"""Conv-LoRA: LoRA with a convolution of a chosen scale between its factors.

Zhong et al., "Convolution Meets LoRA" (2024), and its authors' code in AutoGluon
(`adaptation_layers.py`): y = W x + (alpha / r) B (z + E_g(z)), z = A x, where a noisy top-1 gate
(Shazeer et al., 2017) picks one of M experts. Expert m enlarges z by m, convolves 3 x 3, applies
GELU and shrinks it back, all bicubic. As there, the expert's output is not multiplied by the gate,
which learns from the balance loss alone. We gather the chosen experts where that code sums
exponentials, which is the same for one expert and cannot overflow.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from hwnas.adapters.contract import MatrixSlice, NotFoldable, WeightAdapter
from hwnas.adapters.kinds.latest_loss import LatestLoss
from hwnas.adapters.kinds.token_maps import as_maps, as_tokens
from hwnas.errors import ConfigError

__all__ = ["ConvLoraAdapter"]


class ConvLoraAdapter(WeightAdapter):
    """Adds (alpha / rank) B (z + E(z)), z = A x, for x (B, H, W, I) or (B, L, I) with square L.

    Args:
        whole: Shape of the matrix; a fused qkv shares one gate.
        rng: Draws A and the kernels.
        rank: Channels of z.
        alpha: Strength; the output is multiplied by alpha / rank.
        experts: How many, of scales 1 to `experts`.
        balance: Factor of the balance loss.

    One choice for each entry of the first dimension: an image, or a window of a windowed block.
    Always a branch. The noise of training is drawn from torch's own generator, as in dropout.
    """

    role = "branch"

    def __init__(
        self, whole: MatrixSlice, *, rng: torch.Generator, rank: int = 3, alpha: float = 32.0,
        experts: int = 8, balance: float = 1e-2,
    ) -> None:  # fmt: skip
        super().__init__(whole)
        if rank < 1 or experts < 2:
            raise ConfigError(
                f"rank {rank}, {experts} experts: Conv-LoRA needs a rank of at least 1 and 2 "
                "experts to choose from"
            )
        self.rank, self.gamma = rank, alpha / rank
        self.experts, self.balance = experts, balance
        rows, columns = whole.shape
        self.A = nn.Parameter(_uniform((rank, columns), columns, rng))
        self.B = nn.Parameter(torch.zeros(rows, rank))
        self.kernels = nn.Parameter(_uniform((experts, rank, rank, 3, 3), 9 * rank, rng))
        self.biases = nn.Parameter(torch.zeros(experts, rank))
        self.gate = nn.Parameter(torch.zeros(experts, rank))
        self.noise = nn.Parameter(torch.zeros(experts, rank))
        self._balance = LatestLoss()

    def branch(self, x: torch.Tensor, part: MatrixSlice) -> torch.Tensor:
        """(alpha / rank) B (z + E(z)), by the expert of each image or window."""
        z = functional.linear(x, part.columns(self.A))
        maps = as_maps(z)
        found = torch.zeros_like(maps)
        chosen = self._choose(maps.mean(dim=(2, 3)))
        for expert in sorted(set(chosen.tolist())):
            rows = (chosen == expert).nonzero()[:, 0]
            found = found.index_copy(0, rows, self._expert(expert, maps[rows]).to(found.dtype))
        return functional.linear(z + as_tokens(found, z.shape), part.rows(self.B)) * self.gamma

    def fold(self) -> torch.Tensor:
        """Raises NotFoldable: the kernels read other tokens, and the gate reads x."""
        raise NotFoldable(
            "Conv-LoRA convolves neighbouring tokens and chooses by image; no weight does that. "
            "Keep the branch, or train nas_lora, whose cell can be annealed into a weight"
        )

    def auxiliary_loss(self) -> torch.Tensor | None:
        """The balance loss: factor times CV² of the experts' use and of their expected load."""
        return self._balance.take()

    def trainable_groups(self) -> dict[str, list[nn.Parameter]]:
        """`gate`: the gate and its noise; `weights`: everything else."""
        gate = [p for p in (self.gate, self.noise) if p.requires_grad]
        others = (self.A, self.B, self.kernels, self.biases)
        groups = {"weights": [p for p in others if p.requires_grad], "gate": gate}
        return {name: found for name, found in groups.items() if found}

    def _expert(self, m: int, maps: torch.Tensor) -> torch.Tensor:
        size, scale = maps.shape[2:], m + 1
        if scale > 1:
            maps = functional.interpolate(maps, scale_factor=scale, mode="bicubic")
        found = functional.conv2d(maps, self.kernels[m], self.biases[m], padding=1)
        found = functional.gelu(found)
        return functional.interpolate(found, size=size, mode="bicubic") if scale > 1 else found

    def _choose(self, pooled: torch.Tensor) -> torch.Tensor:
        """The expert of each of the means (B, r): (B,)."""
        clean = functional.linear(pooled, self.gate)
        if not self.training:
            return clean.argmax(dim=-1)
        spread = functional.softplus(functional.linear(pooled, self.noise)) + 1e-2
        noisy = clean + spread * torch.randn_like(clean)
        chosen = noisy.argmax(dim=-1)
        if torch.is_grad_enabled():
            use = functional.one_hot(chosen, self.experts).to(clean.dtype).sum(dim=0)
            load = _expected_load(clean, noisy, spread)
            self._balance.put(self.balance * (_squared_variation(use) + _squared_variation(load)))
        return chosen


def _expected_load(clean: torch.Tensor, noisy: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    """How often each expert would be chosen if its noise were drawn again: (B, M) to (M,)."""
    top = noisy.topk(2, dim=-1).values
    best, second = top[:, :1], top[:, 1:]
    to_beat = torch.where(noisy >= best, second, best)
    load: torch.Tensor = torch.special.ndtr((clean - to_beat) / spread).sum(dim=0)
    return load


def _squared_variation(values: torch.Tensor) -> torch.Tensor:
    """Squared coefficient of variation of values (M,)."""
    return values.var() / (values.mean().square() + 1e-10)


def _uniform(shape: tuple[int, ...], fan_in: int, rng: torch.Generator) -> torch.Tensor:
    return (torch.rand(shape, generator=rng) * 2 - 1) / math.sqrt(fan_in)  # Kaiming, a = sqrt(5)
