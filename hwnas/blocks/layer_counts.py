"""The layers of a slot's option, by shape arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hwnas.blocks.options import FLOAT, BlockOption, heads_of
from hwnas.workload import ops
from hwnas.workload.layers import LayerSpec
from hwnas.workload.ops import Bits
from hwnas.workload.sam import (
    BlockShape,
    SamGeometry,
    attention_layers,
    lin1_layers,
    lin2_layers,
    proj_layers,
    qkv_layers,
)

__all__ = ["CONV_KERNEL", "slot_layers"]

Layers = tuple[LayerSpec, ...]
CONV_KERNEL = 5
"""Side of the depthwise convolution that stands for attention."""

_ATTENTION_BITS = 8


def slot_layers(
    geometry: SamGeometry, slot: int, option: BlockOption, places: Sequence[int], resolution: int
) -> Layers:
    """All layers of an option in a slot, in the order of running.

    `places` are the teacher's blocks that the option stands for, which say what attends globally.
    Layers are named `slots.S.I.…` after the slot and the place of the block in it.
    """
    layers: list[LayerSpec] = []
    for number, place in enumerate(places):
        window = geometry.window if option.kind == "window" else geometry.window_of(place)
        shape = BlockShape(
            name=f"slots.{slot}.{number}",
            grid=geometry.grid(resolution),
            window=0 if option.kind == "conv" else window,
            dim=geometry.dim,
            heads=heads_of(geometry, option),
            head_dim=geometry.head_dim,
            hidden=option.ratio * geometry.dim,
        )
        mixer = _conv if option.kind == "conv" else _attention
        layers += mixer(shape, option)
        layers += lin1_layers(shape, option.w_bits, option.a_bits)
        layers += lin2_layers(shape, option.w_bits, option.a_bits)
    return tuple(layers)


def _attention(shape: BlockShape, option: BlockOption) -> Layers:
    w, a = option.w_bits, option.a_bits
    products = a if option.bits == FLOAT else _ATTENTION_BITS
    return (
        *qkv_layers(shape, w, a, products),
        *attention_layers(shape, products, a),
        *proj_layers(shape, w, a),
    )


def _conv(shape: BlockShape, option: BlockOption) -> Layers:
    """First norm, depthwise and pointwise convolution, and the residual sum."""
    s, w, a = shape, option.w_bits, option.a_bits
    held: dict[str, Any] = {"group": s.name, "held_bits": s.residual_bits}
    elems = s.tokens * s.dim
    return (
        ops.norm(
            f"{s.name}.norm1", s.tokens, s.dim, a_bits=s.float_bits, out_bits=a, group=s.name
        ),
        ops.conv(
            f"{s.name}.conv", (s.dim, s.dim), CONV_KERNEL, s.grid, Bits(w, a, a), groups=s.dim,
            **held,
        ),
        ops.linear(
            f"{s.name}.point", s.tokens, s.dim, s.dim, Bits(w, a, s.float_bits), **held
        ),
        ops.elementwise(
            f"{s.name}.add1", "add", elems, elems, extra_in_elems=elems, a_bits=s.float_bits,
            out_bits=s.float_bits, group=s.name,
        ),
    )  # fmt: skip
