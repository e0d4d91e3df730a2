"""Permuting heads, MLP units and channels of a stock encoder by importance, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from hwnas.errors import CheckpointError
from hwnas.workload.sam_geometry import SamGeometry

__all__ = ["EncoderOrder", "drop_order", "sort_encoder"]


@dataclass(frozen=True)
class EncoderOrder:
    """What comes first in each axis, most important first, as indexes into the stock tensors.

    `heads` (depth, heads), `units` (depth, MLP hidden), `channels` (dim,), all int64;
    `blocks` (depth,) float32 is the importance of each block, which is never moved.
    """

    heads: torch.Tensor
    units: torch.Tensor
    channels: torch.Tensor
    blocks: torch.Tensor

    @classmethod
    def stock(cls, geometry: SamGeometry) -> EncoderOrder:
        """The order of the checkpoint, and equal importance of all blocks."""
        g = geometry
        return cls(
            torch.arange(g.heads).repeat(g.depth, 1),
            torch.arange(g.mlp_hidden).repeat(g.depth, 1),
            torch.arange(g.dim),
            torch.ones(g.depth),
        )

    def check(self, geometry: SamGeometry) -> None:
        """Raise CheckpointError unless every axis is a permutation of the geometry's size."""
        stock = EncoderOrder.stock(geometry)
        for name in ("heads", "units", "channels"):
            own, expected = getattr(self, name), getattr(stock, name)
            if own.shape != expected.shape or not torch.equal(own.sort(dim=-1)[0], expected):
                raise CheckpointError(
                    f"the order of {name} has shape {tuple(own.shape)} and is not a permutation "
                    f"of {tuple(expected.shape)} of {geometry.name}; prepare the supernet again"
                )


def drop_order(importance: torch.Tensor, geometry: SamGeometry) -> tuple[tuple[int, ...], ...]:
    """For each stage its blocks in the order in which they are dropped, least important first.

    The last block of a stage comes last: it is never dropped.
    """
    order = []
    for stage in range(geometry.stages):
        *free, last = geometry.stage_blocks(stage)
        order.append((*sorted(free, key=lambda i: float(importance[i])), last))
    return tuple(order)


@torch.no_grad()
def sort_encoder(encoder: Any, order: EncoderOrder, geometry: SamGeometry) -> None:
    """Permute an encoder's tensors in place; what it computes stays the same.

    Heads: rows of each third of qkv, columns of proj. Units: rows of lin1, columns of lin2.
    Channels: everything that writes, reads or normalizes the residual stream.
    """
    order.check(geometry)
    for block, heads, units in zip(encoder.blocks, order.heads, order.units, strict=True):
        _sort_heads(block.attn, heads, geometry.head_dim)
        _permute(block.mlp.lin1.weight, units, 0)
        _permute(block.mlp.lin1.bias, units, 0)
        _permute(block.mlp.lin2.weight, units, 1)
    _sort_channels(encoder, order.channels)


def _sort_heads(attention: Any, heads: torch.Tensor, head_dim: int) -> None:
    rows = (heads[:, None] * head_dim + torch.arange(head_dim)).flatten()
    inner = len(rows)
    thirds = (torch.arange(3)[:, None] * inner + rows).flatten()
    _permute(attention.qkv.weight, thirds, 0)
    _permute(attention.qkv.bias, thirds, 0)
    _permute(attention.proj.weight, rows, 1)


def _sort_channels(encoder: Any, channels: torch.Tensor) -> None:
    patch, neck = encoder.patch_embed.proj, encoder.neck[0]
    _permute(patch.weight, channels, 0)
    _permute(patch.bias, channels, 0)
    _permute(encoder.pos_embed, channels, -1)
    _permute(neck.weight, channels, 1)
    for block in encoder.blocks:
        for norm in (block.norm1, block.norm2):
            _permute(norm.weight, channels, 0)
            _permute(norm.bias, channels, 0)
        for reader in (block.attn.qkv, block.mlp.lin1):
            _permute(reader.weight, channels, 1)
        for writer in (block.attn.proj, block.mlp.lin2):
            _permute(writer.weight, channels, 0)
            _permute(writer.bias, channels, 0)


def _permute(parameter: torch.Tensor, index: torch.Tensor, dim: int) -> None:
    parameter.copy_(parameter.index_select(dim, index.to(parameter.device)))
