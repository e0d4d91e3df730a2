"""What a frozen encoder makes of fixed training views, computed once and kept on disk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from hwnas.data.folder import LabeledImage
from hwnas.data.views import View, draw_view
from hwnas.supernet.checkpoint import save_weights
from hwnas.supernet.evaluation import Embed
from hwnas.supernet.sam_model import position_table
from hwnas.supernet.training.batches import images_of
from hwnas.supernet.training.pretraining.recipe import CachedSet

__all__ = ["CachedViews", "cache_views", "fused_embedding", "global_tokens"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class CachedViews:
    """Views of one resolution and their features (n, g, g, C) float16."""

    resolution: int
    views: Sequence[View]
    features: torch.Tensor


def cache_views(
    embed: Callable[[torch.Tensor], torch.Tensor],
    images: Sequence[LabeledImage],
    path: Path,
    part: CachedSet,
    *,
    number: int,
    seed: int,
    keep: bool = True,
) -> CachedViews:
    """Draw view `number` of `part` of every `part.every`-th image and embed it, or read `path`.

    `embed` maps images (B, 3, R, R) to features (B, g, g, C). The views depend on seed,
    resolution and number. Nothing is written without `keep`.
    """
    resolution = part.resolution
    views = [
        draw_view(
            image,
            resolution,
            np.random.default_rng([seed, resolution, number, index]),
            crop=part.crop,
            recolor=number > 0,
        )
        for index, image in enumerate(images[:: part.every])
    ]
    if path.is_file():
        features = read_raw(path)
        if len(features) == len(views):
            return CachedViews(resolution, views, features)
    _LOG.info("embedding %d views at %d px (view %d)", len(views), resolution, number)
    parts = []
    for start in range(0, len(views), 4):
        parts.append(embed(images_of(views[start : start + 4])).half().cpu())
    features = torch.cat(parts)
    if keep:
        save_weights(path, {"features": features})
    return CachedViews(resolution, views, features)


def read_raw(path: Path) -> torch.Tensor:
    """The features of a cache file, kept in float16."""
    from safetensors.torch import load_file

    features: torch.Tensor = load_file(path)["features"]
    return features


@torch.no_grad()
def global_tokens(sam: Any, images: torch.Tensor) -> torch.Tensor:
    """`encode_tokens` for an encoder of global blocks with zero relative tables, (B, g, g, C).

    Fused attention: three times faster than the stock blocks at 512 px. The caller vouches for
    the zero tables.
    """
    encoder = sam.image_encoder
    x = encoder.patch_embed(images)
    x = x + position_table(encoder.pos_embed, x.shape[1])
    b, h, w, c = x.shape
    x = x.flatten(1, 2)
    for block in encoder.blocks:
        attention = block.attn
        qkv = attention.qkv(block.norm1(x)).unflatten(-1, (3, attention.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, h·w, head_dim)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        x = x + attention.proj(mixed.transpose(1, 2).flatten(2))
        x = x + block.mlp(block.norm2(x))
    tokens: torch.Tensor = x.reshape(b, h, w, c)
    return tokens


def fused_embedding(sam: Any) -> Embed | None:
    """`encode` by `global_tokens` for a model that allows it, else None."""
    encoder = sam.image_encoder
    for block in encoder.blocks:
        tables = (block.attn.rel_pos_h, block.attn.rel_pos_w)
        if block.window_size or any(bool(table.any()) for table in tables):
            return None

    def embed(images: torch.Tensor) -> torch.Tensor:
        embedding: torch.Tensor = encoder.neck(global_tokens(sam, images).permute(0, 3, 1, 2))
        return embedding

    return embed
