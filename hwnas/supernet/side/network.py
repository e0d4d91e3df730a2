"""A side network: from the features of a frozen encoder to what is added to its result."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from hwnas.adapters import NotFoldable
from hwnas.errors import ConfigError
from hwnas.supernet.side.cells import LowRankMixer, LstBlock, ResBypass
from hwnas.supernet.side.config import EMBEDDING, METHODS, SideConfig
from hwnas.supernet.side.features import Features
from hwnas.supernet.side.layers import Projection
from hwnas.workload.sam_geometry import SamGeometry

__all__ = ["SideNetwork", "side_network"]


class SideNetwork(nn.Module):
    """Cells along the tapped blocks of an encoder: y_i = cell_i(y_(i-1), features of block k_i).

    The result is added to the last block's tokens, or to the embedding behind the neck, and is
    exactly zero as long as nothing is trained: the last layers of cells, or where the cells are
    `lst_block` the layer that widens their last result, start at zero. `blocks` are those to be
    read, -1 the patch embedding. With `recompute` a cell keeps its two inputs alone for backward,
    and runs once more there.
    """

    def __init__(self, geometry: SamGeometry, config: SideConfig, *, rng: torch.Generator) -> None:
        """Make a fresh network, its random numbers drawn by `rng`.

        Raises:
            ConfigError: the encoder does not have the taps, or no width of that reduction.
        """
        super().__init__()
        self.geometry, self.config = geometry, config
        self.recompute = False
        taps, width = config.blocks(geometry), config.width(geometry)
        lst = config.cell == "lst_block"
        self.blocks = (EMBEDDING, *taps) if lst else taps
        self.enter = Projection(geometry.dim, width, rng=rng) if lst else None
        self.cells = nn.ModuleList(
            _cell(geometry, config, block, first=not place, rng=rng)
            for place, block in enumerate(taps)
        )
        out = geometry.dim if config.inject == "before" else geometry.neck_dim
        self.leave = nn.ModuleList()
        if lst:
            self.leave.append(Projection(width, out, rng=rng, zero=True))
        elif config.inject == "after":
            # not zero: the cells' last layers are, and two zeros in a row would never learn
            self.leave.append(Projection(width, config.rank, rng=rng, bias=False))
            self.leave.append(Projection(config.rank, out, rng=rng, bias=False))

    def forward(
        self, features: Features, histogram: torch.Tensor, *, frames: int = 1
    ) -> torch.Tensor:
        """What is to be added, (B, g, g, c) before the neck or (B, g, g, 256) after it.

        With `frames` F the B maps are those of B / F clips, one frame after the other.

        Raises:
            ConfigError: `blocks` and features differ, or a clip for a network without time.
        """
        self._check(features, frames)
        taps = [tap.detach() for tap in features.taps]
        if frames > 1:
            taps = [tap.view(-1, frames, *tap.shape[1:]) for tap in taps]
        state = None
        if self.enter is not None:
            state, taps = self.enter(taps[0]), taps[1:]
        again = self.recompute and torch.is_grad_enabled()
        for cell, tap in zip(self.cells, taps, strict=True):
            state = _kept(cell, state, tap, histogram) if again else cell(state, tap, histogram)
        assert state is not None
        if self.config.inject == "before":
            width = features.last.shape[-1]
            found: torch.Tensor = self.leave[0](state, width) if len(self.leave) else state
        else:
            found = state
            for layer in self.leave:
                found = layer(found)
        return found.flatten(0, 1) if frames > 1 else found

    @property
    def embeds(self) -> bool:
        """Whether it adds to the embedding behind the neck."""
        return self.config.inject == "after"

    def fold(self) -> torch.Tensor:
        """Never: a side network is no weight.

        Raises:
            NotFoldable: always.
        """
        raise NotFoldable(
            f"a side network ({self.config.cell}) reads the outputs of {len(self.blocks)} blocks "
            "and no weight of the encoder replaces it; save it and run it beside the encoder, or "
            "train an adapter that merges (lora, dora, shira)"
        )

    def _check(self, features: Features, frames: int) -> None:
        if len(features.taps) != len(self.blocks):
            raise ConfigError(
                f"features of {len(features.taps)} blocks; this side network reads blocks "
                f"{', '.join(map(str, self.blocks))}"
            )
        if frames > 1 and not self.config.frames:
            raise ConfigError(
                f"a clip of {frames} frames; this side network has no time axis, make one with "
                f"frames={frames}, or give its frames as images"
            )
        if len(features.last) % frames:
            raise ConfigError(f"{len(features.last)} images are no clips of {frames} frames each")


def side_network(
    geometry: SamGeometry, method: str = "losa", *, seed: int = 0, **options: object
) -> SideNetwork:
    """A fresh side network of a method (`losa`, `lst`, `res_bypass`) with changed options.

    Raises:
        ConfigError: an unknown method or option.
    """
    if method not in METHODS:
        raise ConfigError(f"side network {method!r} is none of {', '.join(METHODS)}")
    config = METHODS[method].changed(**options)
    return SideNetwork(geometry, config, rng=torch.Generator().manual_seed(seed))


def _kept(
    cell: nn.Module, state: torch.Tensor | None, tap: torch.Tensor, histogram: torch.Tensor
) -> torch.Tensor:
    # Nothing in a cell is random, so no generator needs to be put back.
    found: torch.Tensor = checkpoint(
        cell, state, tap, histogram, use_reentrant=False, preserve_rng_state=False
    )
    return found


def _cell(
    geometry: SamGeometry, config: SideConfig, block: int, *, first: bool, rng: torch.Generator
) -> nn.Module:
    if config.cell == "low_rank_mixer":
        grid = geometry.grid(geometry.image_size)
        return LowRankMixer(geometry.dim, grid, config, first=first, rng=rng)
    if config.cell == "res_bypass":
        return ResBypass(geometry.dim, config, first=first, rng=rng)
    width, window = config.width(geometry), geometry.window_of(block)
    return LstBlock(geometry.dim, window, config, width=width, rng=rng)
