"""How well a converted encoder repeats the patch features of its original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from hwnas.supernet.convert import depth_of, square_table
from hwnas.supernet.sam_model import encode_tokens, position_table

__all__ = ["Agreement", "dinov2_features", "measure_agreement", "patch_cosines"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Cosine of converted and original patch features: mean and percentiles over all patches."""

    images: int
    patches: int
    mean: float
    p1: float
    p5: float
    median: float


def measure_agreement(
    weights: dict[str, torch.Tensor], sam: Any, images: Sequence[torch.Tensor]
) -> Agreement:
    """Summarize `patch_cosines`."""
    cosines = patch_cosines(weights, sam, images)
    p1, p5, median = torch.quantile(cosines, torch.tensor([0.01, 0.05, 0.5])).tolist()
    return Agreement(len(images), len(cosines), float(cosines.mean()), p1, p5, median)


def patch_cosines(
    weights: dict[str, torch.Tensor], sam: Any, images: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Cosine of original and converted patch features, one for each patch of each image; (n,).

    `images` are normalized squares (3, R, R) at the converted model's largest size R. The
    original sees them resized to its own patch (R/16 patches of 14 pixels a side), with its
    class token; both features are taken after the original's last norm.
    """
    geometry = sam.geometry
    patch = weights["patch_embed.proj.weight"].shape[-1]
    cosines = []
    for image in images:
        side = geometry.grid(image.shape[-1]) * patch
        small = functional.interpolate(
            image[None], (side, side), mode="bilinear", align_corners=False, antialias=True
        )
        original = dinov2_features(weights, small, heads=geometry.heads)
        with torch.no_grad():
            converted = encode_tokens(sam, image[None])
        normed = functional.layer_norm(
            converted, converted.shape[-1:], weights["norm.weight"], weights["norm.bias"], 1e-6
        )
        cosines.append(functional.cosine_similarity(original, normed, dim=-1).flatten())
    return torch.cat(cosines)


@torch.no_grad()
def dinov2_features(
    weights: dict[str, torch.Tensor], images: torch.Tensor, *, heads: int
) -> torch.Tensor:
    """Patch features (B, h, w, C) of the original network after its last norm.

    A plain forward pass of the DINOv2 layout: class token, LayerScale, own patch size. The sides
    of `images` are multiples of the patch; the position table is resized by bicubic.
    """
    patch = weights["patch_embed.proj.weight"].shape[-1]
    x = functional.conv2d(
        images, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=patch
    )
    b, c, h, w = x.shape
    table = position_table(square_table(weights["pos_embed"][:, 1:]), h).reshape(1, h * w, c)
    first = (weights["cls_token"] + weights["pos_embed"][:, :1]).expand(b, -1, -1)
    x = torch.cat([first, x.flatten(2).transpose(1, 2) + table], dim=1)  # (B, 1 + h·w, C)

    def linear(y: torch.Tensor, key: str) -> torch.Tensor:
        return functional.linear(y, weights[key + ".weight"], weights[key + ".bias"])

    def norm(y: torch.Tensor, key: str) -> torch.Tensor:
        return functional.layer_norm(
            y, (c,), weights[key + ".weight"], weights[key + ".bias"], eps=1e-6
        )

    for i in range(depth_of(weights)):
        name = f"blocks.{i}."
        qkv = linear(norm(x, name + "norm1"), name + "attn.qkv")
        q, k, v = qkv.reshape(b, -1, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + linear(mixed, name + "attn.proj") * weights[name + "ls1.gamma"]
        hidden = functional.gelu(linear(norm(x, name + "norm2"), name + "mlp.fc1"))
        x = x + linear(hidden, name + "mlp.fc2") * weights[name + "ls2.gamma"]
    return norm(x, "norm")[:, 1:].reshape(b, h, w, c)
