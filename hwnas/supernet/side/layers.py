"""Layers of side networks: sliced to the width of a subnet, interpolated to a grid of tokens."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from hwnas.quant.bits import BITS, FLOAT_BITS
from hwnas.supernet.side.config import HISTOGRAM
from hwnas.workload.sam_plan import EncoderPlan

__all__ = ["AxisMix", "Film", "Norm", "Projection", "bit_histogram"]


class Projection(nn.Module):
    """A linear layer of which a narrower subnet uses the first columns or the first rows.

    Weights are uniform within 1 / sqrt(inputs), or `zero`; biases zero.
    """

    def __init__(
        self, inp: int, out: int, *, rng: torch.Generator, zero: bool = False, bias: bool = True
    ) -> None:
        super().__init__()
        drawn = torch.zeros(out, inp) if zero else _drawn((out, inp), inp, rng)
        self.weight = nn.Parameter(drawn)
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None

    def forward(self, x: torch.Tensor, out: int | None = None) -> torch.Tensor:
        """(..., i) to (..., `out`), all outputs by default."""
        bias = None if self.bias is None else self.bias[:out]
        return functional.linear(x, self.weight[:out, : x.shape[-1]], bias)


class Norm(nn.Module):
    """LayerNorm over channels, of which a narrower subnet uses the first ones."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        c = x.shape[-1]
        return functional.layer_norm(x, (c,), self.weight[:c], self.bias[:c], 1e-6)


class AxisMix(nn.Module):
    """up(gelu(down(x))) along one axis of tokens, the same for each channel and place.

    `down` (r, N) and `up` (N, r) belong to an axis of N tokens and are interpolated linearly to
    one of n. `down` is then multiplied by N / n, so that sums over the axis keep their size: a
    smooth factor gives a constant map the same hidden values at each resolution.
    """

    def __init__(self, length: int, rank: int, *, rng: torch.Generator) -> None:
        super().__init__()
        self.length = length
        self.down = nn.Parameter(_drawn((rank, length), length, rng))
        self.down_bias = nn.Parameter(torch.zeros(rank))
        self.up = nn.Parameter(torch.zeros(length, rank))
        self.up_bias = nn.Parameter(torch.zeros(length))

    def forward(self, x: torch.Tensor, axis: int) -> torch.Tensor:
        """Mix `axis`, not the first one, of x; the shape stays."""
        n = x.shape[axis]
        flat = x.reshape(math.prod(x.shape[:axis]), n, -1)  # (P, n, Q)
        down = _along(self.down, n) * (self.length / n)
        up, up_bias = _along(self.up.t(), n).t(), _along(self.up_bias[None], n)[0]
        # batched products read x where it lies; `matmul` would copy it with the axis at the end
        z = torch.bmm(down.expand(len(flat), -1, -1), flat) + self.down_bias[:, None]
        y = torch.bmm(up.expand(len(flat), -1, -1), functional.gelu(z)) + up_bias[:, None]
        return y.view(x.shape)


class Film(nn.Module):
    """x (1 + scale) + shift, both linear in the bit histogram of a subnet; 1 and 0 at first.

    Source of the form: Perez et al., "FiLM" (2018); conditioning on bits is ours.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, width, HISTOGRAM))

    def forward(self, x: torch.Tensor, histogram: torch.Tensor) -> torch.Tensor:
        """`histogram` (HISTOGRAM,) as `bit_histogram` gives it."""
        scale, shift = (part @ histogram for part in self.weight[:, : x.shape[-1]])
        y: torch.Tensor = x * (1 + scale) + shift
        return y


def bit_histogram(plan: EncoderPlan | None) -> torch.Tensor:
    """Shares of the linear layers of a plan's blocks at each bit-width: (HISTOGRAM,).

    No plan is an encoder in floating point; 16 bits count as that.
    """
    bins = (*BITS, FLOAT_BITS)
    found = torch.zeros(2, len(bins))
    if plan is None:
        found[:, -1] = 1
        return found.flatten()
    for block in plan.blocks:
        for row, bits in enumerate((block.w_bits, block.a_bits)):
            for b in bits:
                found[row, bins.index(b) if b in BITS else -1] += 1
    return (found / found.sum(1, keepdim=True)).flatten()


def _drawn(shape: tuple[int, ...], fan_in: int, rng: torch.Generator) -> torch.Tensor:
    return (torch.rand(shape, generator=rng) * 2 - 1) / math.sqrt(fan_in)


def _along(factor: torch.Tensor, length: int) -> torch.Tensor:
    """A factor (r, N) interpolated to (r, length); itself where N is that."""
    if factor.shape[-1] == length:
        return factor
    return functional.interpolate(factor[None], length, mode="linear", align_corners=False)[0]
