"""The Segment Anything Model of any size, from the stock `segment_anything` modules.

The modules and their state-dict keys are the package's own; the forward pass is ours, because the
stock one knows one resolution and one image at a time (`decoder.py`, `prompting.py`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from hwnas.supernet.torchvision_shim import ensure_torchvision

if TYPE_CHECKING:
    from hwnas.workload.sam_geometry import SamGeometry

__all__ = ["build_sam", "encode", "encode_tokens", "position_table"]

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


def build_sam(geometry: SamGeometry) -> Any:
    """Build a `segment_anything.modeling.Sam` with stock keys and random weights, in eval mode.

    The geometry is kept as `sam.geometry`. Blocks whose `window_of` is 0 attend globally.
    """
    ensure_torchvision()
    from segment_anything.modeling import (
        ImageEncoderViT,
        MaskDecoder,
        PromptEncoder,
        Sam,
        TwoWayTransformer,
    )

    size, grid, dim = geometry.image_size, geometry.grid(geometry.image_size), geometry.neck_dim
    encoder = ImageEncoderViT(
        img_size=size,
        patch_size=geometry.patch,
        embed_dim=geometry.dim,
        depth=geometry.depth,
        num_heads=geometry.heads,
        mlp_ratio=geometry.mlp_ratio,
        out_chans=dim,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=geometry.window,
        global_attn_indexes=geometry.global_blocks,
    )
    prompts = PromptEncoder(
        embed_dim=dim,
        image_embedding_size=(grid, grid),
        input_image_size=(size, size),
        mask_in_chans=16,
    )
    decoder = MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(depth=2, embedding_dim=dim, mlp_dim=2048, num_heads=8),
        transformer_dim=dim,
        iou_head_depth=3,
        iou_head_hidden_dim=256,
    )
    sam = Sam(encoder, prompts, decoder, pixel_mean=list(PIXEL_MEAN), pixel_std=list(PIXEL_STD))
    sam.geometry = geometry
    return sam.eval()


def position_table(table: torch.Tensor, grid: int) -> torch.Tensor:
    """Resize a position table (1, G, G, C) to (1, grid, grid, C), bicubic, corners not aligned.

    The table itself comes back where the sizes agree, so the stock encoder is repeated exactly.
    """
    if table.shape[1:3] == (grid, grid):
        return table
    resized = functional.interpolate(
        table.permute(0, 3, 1, 2), size=(grid, grid), mode="bicubic", align_corners=False
    )
    return resized.permute(0, 2, 3, 1)


def encode(sam: Any, images: torch.Tensor) -> torch.Tensor:
    """Embed normalized square images (B, 3, R, R) as (B, 256, R/16, R/16).

    Works at every R that is a multiple of the patch: the position table is resized by
    `position_table`, the relative tables by the stock linear interpolation. At the size that
    the model was built for, the result equals the stock `ImageEncoderViT.forward`.
    """
    embedding: torch.Tensor = sam.image_encoder.neck(encode_tokens(sam, images).permute(0, 3, 1, 2))
    return embedding


def encode_tokens(sam: Any, images: torch.Tensor) -> torch.Tensor:
    """The tokens (B, g, g, C) of the last block, before the neck."""
    encoder = sam.image_encoder
    tokens: torch.Tensor = encoder.patch_embed(images)  # (B, g, g, C)
    tokens = tokens + position_table(encoder.pos_embed, tokens.shape[1])
    for block in encoder.blocks:
        tokens = block(tokens)
    return tokens
