"""The cells of side networks: what became of the features so far, and those of one more block.

Features are maps (B, h, w, c), or of clips (B, F, h, w, c); c may be less than the width that the
cell was made for, when they come from a narrower subnet. All last layers are zero at first, so a
fresh cell of `low_rank_mixer` or `res_bypass` hands on zeros.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from hwnas.supernet.side.config import SideConfig, heads_of
from hwnas.supernet.side.layers import AxisMix, Film, Norm, Projection
from hwnas.supernet.windows import merge_windows, split_windows

__all__ = ["Combine", "LowRankMixer", "LstBlock", "ResBypass"]


class Combine(nn.Module):
    """state + tap, or sigma(a / T) state + (1 - sigma(a / T)) tap.

    Source: Sung et al., LST (2022), section 3.2, T = 0.1 there; a = 0 gives halves.
    """

    def __init__(self, *, gate: bool, temperature: float) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(())) if gate else None
        self.temperature = temperature

    def forward(self, state: torch.Tensor, tap: torch.Tensor) -> torch.Tensor:
        if self.gate is None:
            return state + tap
        share = torch.sigmoid(self.gate / self.temperature)
        return share * state + (1 - share) * tap


class LowRankMixer(nn.Module):
    """y + g(combine(y, tap)), g a low-rank MLP over channels and then over each axis of tokens.

        X1 = up(gelu(down(LN(X)))) over channels
        X2 = up(gelu(down(LN(X + X1)))) over the time axis of a clip, then X3 over the height with
        X + X1 + X2 as its X, and X4 over the width;   g(X) = X1 + X2 + X3 + X4

    Source: LoSA, as far as it can be known (`config.py`). Axes of the picture are mixed one by one
    instead of all tokens at once, as the paper does with space and time: 2 N r numbers an axis
    instead of 2 N^2 r. Residual, norms and biases are ours.
    """

    def __init__(
        self, width: int, grid: int, config: SideConfig, *, first: bool, rng: torch.Generator
    ) -> None:
        super().__init__()
        self.combine = None if first else _combine(config)
        self.norm, self.token_norm = Norm(width), Norm(width)
        self.film = Film(width) if config.film else None
        self.down = Projection(width, config.rank, rng=rng)
        self.up = Projection(config.rank, width, rng=rng, zero=True)
        self.time = AxisMix(config.frames, config.rank, rng=rng) if config.frames else None
        self.height = AxisMix(grid, config.rank, rng=rng)
        self.width = AxisMix(grid, config.rank, rng=rng)

    def forward(
        self, state: torch.Tensor | None, tap: torch.Tensor, histogram: torch.Tensor
    ) -> torch.Tensor:
        x = tap if state is None or self.combine is None else self.combine(state, tap)
        z = _filmed(self.film, self.norm(x), histogram)
        found = self.up(functional.gelu(self.down(z)), x.shape[-1])
        for mix, axis in self._axes(x):
            found = found + mix(self.token_norm(x + found), axis)
        mixed: torch.Tensor = found if state is None else state + found
        return mixed

    def _axes(self, x: torch.Tensor) -> list[tuple[AxisMix, int]]:
        axes = [(self.height, x.ndim - 3), (self.width, x.ndim - 2)]
        # one frame has nothing to be mixed with
        moves = self.time is not None and x.ndim == 5 and x.shape[1] > 1
        return [(self.time, 1), *axes] if moves and self.time is not None else axes


class LstBlock(nn.Module):
    """Block(combine(h, down(tap))), a transformer block on `width / reduction` channels.

    Source: Sung et al., LST (2022), and its code. The block attends within the windows of the
    tapped block, without relative positions; it starts from random weights, not from pruned ones
    of the encoder.
    """

    def __init__(
        self, inp: int, window: int, config: SideConfig, *, width: int, rng: torch.Generator
    ) -> None:
        super().__init__()
        self.window, self.heads = window, heads_of(width)
        self.combine = _combine(config)
        self.down = Projection(inp, width, rng=rng)
        self.film = Film(width) if config.film else None
        self.norm1, self.norm2 = Norm(width), Norm(width)
        self.qkv = Projection(width, 3 * width, rng=rng)
        self.proj = Projection(width, width, rng=rng)
        self.lin1 = Projection(width, 4 * width, rng=rng)
        self.lin2 = Projection(4 * width, width, rng=rng)

    def forward(
        self, state: torch.Tensor | None, tap: torch.Tensor, histogram: torch.Tensor
    ) -> torch.Tensor:
        tap = _filmed(self.film, self.down(tap), histogram)
        x = tap if state is None else self.combine(state, tap)
        b, grid = x.shape[0], x.shape[-2]
        regions = split_windows(self.norm1(x), self.window)  # (B·n, L, C)
        q, k, v = self.qkv(regions).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + merge_windows(self.proj(mixed), self.window, grid).view(b, grid, grid, -1)
        y: torch.Tensor = x + self.lin2(functional.gelu(self.lin1(self.norm2(x))))
        return y


class ResBypass(nn.Module):
    """combine(vertical(y), lateral(tap)): y + up(gelu(down(LN(y)))) and up(gelu(down(LN(tap)))).

    Source: Res-Tuning (2023), the bypass of the authors' code: x' = lateral(stem) + vertical(x).
    There the lateral tuner passes the stem on as well and the sum replaces the encoder's output;
    here it does not, and the sum is added, so that a fresh bypass changes nothing. Norms are ours:
    the channels of a ViT's residual stream differ by orders of magnitude.
    """

    def __init__(
        self, width: int, config: SideConfig, *, first: bool, rng: torch.Generator
    ) -> None:
        super().__init__()
        self.film = Film(width) if config.film else None
        self.lateral = _bottleneck(width, config.rank, rng)
        self.combine = None if first else _combine(config)
        self.vertical = None if first else _bottleneck(width, config.rank, rng)

    def forward(
        self, state: torch.Tensor | None, tap: torch.Tensor, histogram: torch.Tensor
    ) -> torch.Tensor:
        lateral = _squeezed(self.lateral, tap, lambda x: _filmed(self.film, x, histogram))
        if state is None or self.vertical is None or self.combine is None:
            return lateral
        kept: torch.Tensor = self.combine(state + _squeezed(self.vertical, state), lateral)
        return kept


def _combine(config: SideConfig) -> Combine:
    return Combine(gate=config.combine == "gate", temperature=config.temperature)


def _bottleneck(width: int, rank: int, rng: torch.Generator) -> nn.ModuleDict:
    down, up = Projection(width, rank, rng=rng), Projection(rank, width, rng=rng, zero=True)
    return nn.ModuleDict({"norm": Norm(width), "down": down, "up": up})


def _squeezed(
    layers: nn.ModuleDict, x: torch.Tensor,
    film: Callable[[torch.Tensor], torch.Tensor] = lambda x: x,
) -> torch.Tensor:  # fmt: skip
    hidden = functional.gelu(layers["down"](film(layers["norm"](x))))
    widened: torch.Tensor = layers["up"](hidden, x.shape[-1])
    return widened


def _filmed(film: Film | None, x: torch.Tensor, histogram: torch.Tensor) -> torch.Tensor:
    if film is None:
        return x
    found: torch.Tensor = film(x, histogram)
    return found
