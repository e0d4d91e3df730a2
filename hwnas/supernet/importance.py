"""How much each block, head, MLP unit and channel of an encoder matters, from images.

Source: spec of this project, after OFA (Cai et al., 2020), which sorts channels by importance so
that a prefix is a good smaller layer. No gradients are needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from hwnas.supernet.elastic_encoder import ElasticEncoder
from hwnas.supernet.encoder_order import EncoderOrder
from hwnas.supernet.encoder_view import EncoderView
from hwnas.supernet.encoder_weights import NECK_LINEAR, EncoderWeights
from hwnas.supernet.observing import observed
from hwnas.workload.sam_geometry import SamGeometry
from hwnas.workload.sam_plan import EncoderPlan

__all__ = ["measure_importance"]


@torch.no_grad()
def measure_importance(encoder: ElasticEncoder, images: Sequence[torch.Tensor]) -> EncoderOrder:
    """Order heads, units and channels of the largest network in full precision.

    `images` are normalized inputs (3, R, R), each at any resolution of the geometry.
    Block: 1 - mean over tokens of cos(input, output). Head: mean over images of
    |head output times its columns of proj|_F. Unit j: mean |GELU output j| times
    |lin2[:, j]|_2. Channel: sum of |weight| over all readers of the residual stream.
    """
    sums = _Sums(encoder)
    for image in images:
        plan = EncoderPlan.uniform(encoder.geometry, resolution=image.shape[-1])
        sums.add(encoder.view(plan), image[None])
    return sums.order()


class _Sums:
    """Running sums of every score."""

    def __init__(self, encoder: ElasticEncoder) -> None:
        self.geometry: SamGeometry = encoder.geometry
        self.weights = EncoderWeights(encoder.encoder)
        self.heads = torch.zeros(self.geometry.depth, self.geometry.heads)
        self.units = torch.zeros(self.geometry.depth, self.geometry.mlp_hidden)
        self.blocks = torch.zeros(self.geometry.depth)
        self.images = 0

    def add(self, view: EncoderView, images: torch.Tensor) -> None:
        """Run one image through the network and add to every score."""
        shown = observed(view, self._observe)
        x = shown.tokens(images)
        for place, block in enumerate(shown.blocks):
            y = shown.block(place, x)
            self.blocks[block.index] += 1 - functional.cosine_similarity(x, y, dim=-1).mean()
            x = y
        self.images += 1

    def order(self) -> EncoderOrder:
        """Most important first."""
        return EncoderOrder(
            self.heads.argsort(dim=1, descending=True, stable=True),
            self.units.argsort(dim=1, descending=True, stable=True),
            self._channels().argsort(descending=True, stable=True),
            self.blocks / max(self.images, 1),
        )

    def _observe(self, name: str, x: torch.Tensor) -> None:
        if name.endswith(".proj"):
            self._add_heads(name, x)
        elif name.endswith(".lin2"):
            self._add_units(name, x)

    def _add_heads(self, name: str, x: torch.Tensor) -> None:
        heads, size = self.geometry.heads, self.geometry.head_dim
        outputs = x.reshape(-1, heads, size).transpose(0, 1)  # (heads, tokens, head_dim)
        columns = self.weights.weight(name).view(-1, heads, size).permute(1, 2, 0)
        # |O P|_F² = trace(Oᵀ O P Pᵀ), which never builds the (tokens, dim) product.
        gram = outputs.transpose(1, 2) @ outputs
        square = (gram * (columns @ columns.transpose(1, 2))).sum(dim=(1, 2))
        self.heads[_block_of(name)] += square.clamp_min(0).sqrt()

    def _add_units(self, name: str, x: torch.Tensor) -> None:
        norms = self.weights.weight(name).norm(dim=0)
        flat = x.reshape(-1, x.shape[-1])
        # Summed over tokens, so that pieces of one map add up.
        self.units[_block_of(name)] += flat.abs().sum(dim=0) * norms

    def _channels(self) -> torch.Tensor:
        readers = [f"blocks.{i}.{n}" for i in range(self.geometry.depth) for n in ("qkv", "lin1")]
        return torch.stack(
            [self.weights.weight(name).abs().sum(dim=0) for name in (*readers, NECK_LINEAR)]
        ).sum(dim=0)


def _block_of(name: str) -> int:
    return int(name.split(".")[1])
