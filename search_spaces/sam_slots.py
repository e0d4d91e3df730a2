"""The slots of a SAM space: which genes decide the layers of which part of the network.

A block is cut into five slots so that each depends on few genes, and blocks of the same shape
share their tables of costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hwnas.space import Slot
from hwnas.workload.layers import LayerSpec
from hwnas.workload.sam import (
    FULL_GRID,
    BlockShape,
    SamGeometry,
    attention_layers,
    grid_of_block,
    lin1_layers,
    lin2_layers,
    neck_layers,
    pool_layers,
    pool_stage_of,
    proj_layers,
    qkv_layers,
    stem_layers,
)
from hwnas.workload.sam_decoder import decoder_layers

__all__ = ["sam_slots"]

Layers = tuple[LayerSpec, ...]


def sam_slots(geometry: SamGeometry, axes: tuple[str, ...], decoder_bits: int) -> tuple[Slot, ...]:
    """List the slots in the order in which the network runs.

    `axes` are the genes that shape every part: `resolution`, and if searched `token_grid`, `dim`.
    """
    ends = _Ends(geometry, axes, decoder_bits)
    slots = [Slot("stem", axes, ends.stem)]
    for stage in range(geometry.stages):
        if "token_grid" in axes and stage:
            slots.append(Slot(f"pool.{stage}", axes, _Pool(geometry, axes, stage).layers))
        for index in geometry.stage_blocks(stage):
            slots += _block_slots(_Block(geometry, axes, index), stage)
    return (*slots, Slot("neck", axes, ends.neck), Slot("decoder", ("resolution",), ends.decoder))


def _block_slots(block: _Block, stage: int) -> list[Slot]:
    prefix = f"blocks.{block.index}"
    # without a pooled grid, only the window tells the blocks of an encoder apart
    kind = (
        block.geometry.window_of(block.index),
        stage if "token_grid" in block.axes else None,
    )

    def slot(name: str, layers: Callable[..., Layers], *genes: str) -> Slot:
        names = tuple(f"{prefix}.{gene}" for gene in genes)
        return Slot(f"{prefix}.{name}", (*block.axes, *names), layers, shared=(name, *kind))

    return [
        slot("qkv", block.qkv, "heads", "qkv.w_bits", "qkv.a_bits", "attn_bits"),
        slot("attention", block.attention, "heads", "attn_bits", "proj.a_bits"),
        slot("proj", block.proj, "heads", "proj.w_bits", "proj.a_bits"),
        slot("lin1", block.lin1, "ratio", "lin1.w_bits", "lin1.a_bits"),
        slot("lin2", block.lin2, "ratio", "lin2.w_bits", "lin2.a_bits"),
    ]


@dataclass(frozen=True)
class _Block:
    """Layers of one physical block from the values of `axes`, then of its own genes."""

    geometry: SamGeometry
    axes: tuple[str, ...]
    index: int

    def qkv(self, *values: Any) -> Layers:
        shape, (heads, w_bits, a_bits, attn_bits) = self._split(values)
        return qkv_layers(shape(heads=heads), w_bits, a_bits, attn_bits)

    def attention(self, *values: Any) -> Layers:
        shape, (heads, attn_bits, out_bits) = self._split(values)
        return attention_layers(shape(heads=heads), attn_bits, out_bits)

    def proj(self, *values: Any) -> Layers:
        shape, (heads, w_bits, a_bits) = self._split(values)
        return proj_layers(shape(heads=heads), w_bits, a_bits)

    def lin1(self, *values: Any) -> Layers:
        shape, (ratio, w_bits, a_bits) = self._split(values)
        return lin1_layers(shape(ratio=ratio), w_bits, a_bits)

    def lin2(self, *values: Any) -> Layers:
        shape, (ratio, w_bits, a_bits) = self._split(values)
        return lin2_layers(shape(ratio=ratio), w_bits, a_bits)

    def _split(self, values: tuple[Any, ...]) -> tuple[Callable[..., BlockShape], tuple[Any, ...]]:
        axes = dict(zip(self.axes, values, strict=False))
        pool_stage = pool_stage_of(axes.get("token_grid", FULL_GRID))
        g = self.geometry

        def shape(heads: int = g.heads, ratio: int = g.mlp_ratio) -> BlockShape:
            return BlockShape(
                name=f"blocks.{self.index}",
                grid=grid_of_block(g, axes["resolution"], self.index, pool_stage),
                window=g.window_of(self.index),
                dim=axes.get("dim", g.dim),
                heads=heads,
                head_dim=g.head_dim,
                hidden=ratio * g.dim,
            )

        return shape, values[len(self.axes) :]


@dataclass(frozen=True)
class _Pool:
    """Pooling at the entry of one stage, where the gene `token_grid` names that stage."""

    geometry: SamGeometry
    axes: tuple[str, ...]
    stage: int

    def layers(self, *values: Any) -> Layers:
        axes = dict(zip(self.axes, values, strict=True))
        if pool_stage_of(axes["token_grid"]) != self.stage:
            return ()
        return pool_layers(
            axes.get("dim", self.geometry.dim), self.geometry.grid(axes["resolution"])
        )


@dataclass(frozen=True)
class _Ends:
    """What comes before and after the blocks."""

    geometry: SamGeometry
    axes: tuple[str, ...]
    decoder_bits: int

    def stem(self, *values: Any) -> Layers:
        axes = dict(zip(self.axes, values, strict=True))
        return stem_layers(self.geometry, axes["resolution"], dim=axes.get("dim"))

    def neck(self, *values: Any) -> Layers:
        axes = dict(zip(self.axes, values, strict=True))
        pooled = pool_stage_of(axes.get("token_grid", FULL_GRID)) is not None
        return neck_layers(self.geometry, axes["resolution"], dim=axes.get("dim"), pooled=pooled)

    def decoder(self, resolution: int) -> Layers:
        grid = self.geometry.grid(resolution)
        drawn = self.geometry.drawn_boxes
        return decoder_layers(grid, bits=self.decoder_bits, drawn_boxes=drawn)
