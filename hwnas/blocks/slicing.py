"""Where a block's first weights come from: slices of the teacher where shapes nest, else drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from hwnas.blocks.layers import BlockLinear
from hwnas.blocks.options import heads_of
from hwnas.blocks.slot import ConvMixer, SlotBlock, SlotModule, WindowMixer
from hwnas.supernet.position_tables import resize_table
from hwnas.workload.sam_plan import EncoderPlan

__all__ = ["start_from_teacher"]

_SPREAD = 0.02  # of drawn weights: a fresh mixer adds little at first


@torch.no_grad()
def start_from_teacher(
    slot: SlotModule, supernet: Any, resolution: int, rng: torch.Generator
) -> None:
    """Fill a slot in floating point with the supernet's heads, MLP units, norms and tables.

    Its first heads and units are its most important ones, adapters are merged. A convolution has
    nothing to nest in and is drawn with `rng`.
    """
    geometry = supernet.geometry
    whole = EncoderPlan.uniform(geometry, resolution=resolution)
    heads, hidden = heads_of(geometry, slot.option), slot.option.ratio * geometry.dim
    narrow = replace(
        whole, blocks=tuple(replace(b, heads=heads, mlp_hidden=hidden) for b in whole.blocks)
    )
    views = supernet.encoder.view(narrow).blocks
    for place, block in zip(slot.places, slot.blocks, strict=True):
        stock = supernet.encoder.encoder.blocks[place].attn
        _fill(block, views[place], (stock.rel_pos_h, stock.rel_pos_w), rng)


def _fill(block: Any, view: Any, tables: tuple[Any, Any], rng: torch.Generator) -> None:
    own: SlotBlock = block
    for norm, source in ((own.norm1, view.norm1), (own.norm2, view.norm2)):
        norm.eps = source.eps
        norm.weight.copy_(source.weight)
        norm.bias.copy_(source.bias)
    _copy(own.lin1, view.lin1)
    _copy(own.lin2, view.lin2)
    mixer: nn.Module = own.mixer
    if isinstance(mixer, ConvMixer):
        mixer.conv.weight.normal_(std=_SPREAD, generator=rng)
        centre = mixer.conv.weight.shape[-1] // 2
        mixer.conv.weight[..., centre, centre] += 1.0
        mixer.point.weight.normal_(std=_SPREAD, generator=rng)
        return
    if isinstance(mixer, WindowMixer):
        _copy(mixer.qkv, view.qkv)
        _copy(mixer.proj, view.proj)
        attention = mixer.attention
        for own_table, table in zip((attention.height, attention.width), tables, strict=True):
            own_table.copy_(resize_table(table, attention.side))


def _copy(layer: BlockLinear, source: Any) -> None:
    layer.weight.copy_(source.weight)
    layer.bias.copy_(source.bias)
