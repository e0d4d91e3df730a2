"""An elastic, quantized image encoder around a stock `segment_anything` one."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hwnas.adapters import AdapterBank
from hwnas.errors import ArchError
from hwnas.supernet.encoder_layers import (
    AttentionShape,
    InferenceLayers,
    Layers,
    TrainableLayers,
)
from hwnas.supernet.encoder_view import BlockView, EncoderView, Norm
from hwnas.supernet.encoder_weights import (
    NECK_LINEAR,
    PATCH,
    EncoderWeights,
    LayerSize,
    check_encoder,
)
from hwnas.supernet.sam_model import position_table
from hwnas.supernet.scale_table import ScaleTable
from hwnas.supernet.tensor_cache import TensorCache
from hwnas.workload.sam_geometry import SamGeometry
from hwnas.workload.sam_plan import LINEARS, BlockPlan, EncoderPlan

__all__ = ["ElasticEncoder"]

_CACHE_BYTES = 1 << 30


class ElasticEncoder(nn.Module):
    """Every subnet of a stock image encoder, chosen by an `EncoderPlan` for each call.

    A subnet is a slice of the stock tensors: a prefix of heads and of MLP units, a subset of
    blocks, resized position tables; 32 bits leave a tensor in floating point, so that the largest
    plan in 32 bits is the stock encoder. The wrapped module keeps its keys; scales live in
    `scales`, adapters, which are merged before the quantizer at every bit-width and in floating
    point too, in `adapters`. `checkpoint` recomputes each block in backward instead of keeping what
    is inside it. In eval mode without gradients prepared weights are kept; `train()` or
    `forget()` drops them, so call one of them after changing weights in place.
    """

    def __init__(
        self, encoder: Any, geometry: SamGeometry, scales: ScaleTable | None = None,
        *, adapters: AdapterBank | None = None, checkpoint: bool = False,
        cache_bytes: int = _CACHE_BYTES,
    ) -> None:  # fmt: skip
        super().__init__()
        check_encoder(encoder, geometry)
        self.encoder = encoder
        self.geometry = geometry
        self.scales = ScaleTable({}) if scales is None else scales
        self.adapters, self.checkpoint = adapters, checkpoint
        self._cache = TensorCache(max_bytes=cache_bytes)

    def forward(self, images: torch.Tensor, plan: EncoderPlan) -> torch.Tensor:
        """Embed normalized images (B, 3, R, R) as (B, 256, g, g); R must be the plan's."""
        if images.shape[-2:] != (plan.resolution, plan.resolution):
            raise ArchError(
                f"images are {images.shape[-1]}x{images.shape[-2]}, the subnet takes "
                f"{plan.resolution}x{plan.resolution}; resize and pad them to that"
            )
        if torch.is_grad_enabled():
            return self.view(plan)(images)
        with torch.inference_mode():
            return self.view(plan)(images)

    def view(self, plan: EncoderPlan) -> EncoderView:
        """The subnet of a plan; trainable where gradients are enabled, else from the cache.

        Raises ArchError for a plan of another geometry or with options beyond the wrapped
        encoder, CheckpointError for a bit-width without calibrated ranges.
        """
        check_plan(plan, self.geometry)
        weights = EncoderWeights(self.encoder, self.adapters)
        if torch.is_grad_enabled():
            return self._build(
                plan, TrainableLayers(weights, self.scales, checkpoint=self.checkpoint)
            )
        return self._build(plan, InferenceLayers(weights, self.scales, self._cache))

    def weight(self, layer: str, w_bits: int, a_bits: int) -> torch.Tensor:
        """The whole weight (O, I) that the quantizer of a layer sees, adapters merged."""
        weights = EncoderWeights(self.encoder, self.adapters)
        return weights.merged(weights.whole(layer), w_bits, a_bits)

    def train(self, mode: bool = True) -> ElasticEncoder:
        """Switch mode and drop prepared weights."""
        self.forget()
        super().train(mode)
        return self

    def limit_cache(self, max_bytes: int) -> None:
        """Keep no more than `max_bytes` of prepared weights; 0 prepares them in every call."""
        self._cache = TensorCache(max_bytes=max_bytes)

    def forget(self) -> None:
        """Drop prepared weights."""
        self._cache.clear()

    def _build(self, plan: EncoderPlan, layers: Layers) -> EncoderView:
        g, width, edge = self.geometry, plan.width, plan.edge_bits
        area = plan.grid**2
        patch = LayerSize(PATCH, width, self.encoder.patch_embed.proj.weight[0].numel())
        linear = LayerSize(NECK_LINEAR, g.neck_dim, width)
        neck = self.encoder.neck
        return EncoderView(
            g.patch,
            layers.linear(patch, edge, edge, tokens=area),
            self._position(plan),
            tuple(self._block(plan, block, layers) for block in plan.blocks),
            _pool_place(plan),
            layers.linear(linear, edge, edge, tokens=area),
            Norm(neck[1].weight, neck[1].bias, neck[1].eps),
            layers.conv(edge, plan.grid),
            Norm(neck[3].weight, neck[3].bias, neck[3].eps),
            checkpoint=self.checkpoint,
        )

    def _block(self, plan: EncoderPlan, block: BlockPlan, layers: Layers) -> BlockView:
        g, stock = self.geometry, self.encoder.blocks[block.index]
        window, grid = g.window_of(block.index), plan.grid_of(block.index)
        side = window or grid
        windows = (-(-grid // side)) ** 2
        inner = block.heads * g.head_dim
        sizes = ((inner, plan.width), (plan.width, inner),
                 (block.mlp_hidden, plan.width), (plan.width, block.mlp_hidden))  # fmt: skip
        tokens = (windows * side**2,) * 2 + (grid**2,) * 2
        qkv, proj, lin1, lin2 = (
            layers.linear(LayerSize(f"blocks.{block.index}.{name}", *size), w, a, tokens=n)
            for name, size, w, a, n in zip(
                LINEARS, sizes, block.w_bits, block.a_bits, tokens, strict=True
            )
        )
        shape = AttentionShape(block.index, block.heads, g.head_dim, side, windows)
        attention = layers.attention(shape, block.attn_bits)
        norm1, norm2 = (_norm(n, plan.width) for n in (stock.norm1, stock.norm2))
        return BlockView(
            block.index, window, block.mlp_hidden, norm1, qkv, attention, proj, norm2, lin1, lin2
        )

    def _position(self, plan: EncoderPlan) -> torch.Tensor:
        table = self.encoder.pos_embed
        if torch.is_grad_enabled():
            return position_table(table, plan.grid)[..., : plan.width]
        full = self._cache.get(("position", plan.grid), lambda: position_table(table, plan.grid))
        return full[..., : plan.width]


def check_plan(plan: EncoderPlan, geometry: SamGeometry) -> None:
    """Raise ArchError unless the plan's blocks are slices of an encoder of this geometry."""
    problems = []
    if plan.geometry != geometry:
        problems.append(f"it belongs to {plan.geometry.name}, the supernet is {geometry.name}")
    if not 0 < plan.width <= geometry.dim:
        problems.append(f"width {plan.width} is not within 1..{geometry.dim}")
    places = [block.index for block in plan.blocks]
    if places != sorted(set(places)) or places[-1] >= geometry.depth:
        problems.append(f"blocks {places} do not ascend within 0..{geometry.depth - 1}")
    for block in plan.blocks:
        if not 0 < block.heads <= geometry.heads:
            problems.append(f"block {block.index}: heads {block.heads} of {geometry.heads}")
        if not 0 < block.mlp_hidden <= geometry.mlp_hidden:
            units = f"{block.mlp_hidden} of {geometry.mlp_hidden} units"
            problems.append(f"block {block.index}: {units}")
    if problems:
        raise ArchError("the plan does not fit the supernet: " + "; ".join(problems))


def _norm(stock: Any, width: int) -> Norm:
    return Norm(stock.weight[:width], stock.bias[:width], stock.eps)


def _pool_place(plan: EncoderPlan) -> int | None:
    """The place among the kept blocks of the first one on the halved map."""
    for place, block in enumerate(plan.blocks):
        if plan.grid_of(block.index) != plan.grid:
            return place
    return None
