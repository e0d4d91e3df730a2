"""One subnet as a list of ready callables, and the forward pass over them.

The order of the parts is that of segment_anything `modeling/image_encoder.py`; maps stay
channels-last until the end, so that every layer of the encoder is a product of two matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from hwnas.supernet.encoder_layers import Apply
from hwnas.supernet.windows import merge_windows, split_windows

__all__ = ["BlockView", "EncoderView", "Norm"]

_PIECE = 1 << 18  # hidden activations held at a time in evaluation: 1 MiB in float32


@dataclass(frozen=True)
class Norm:
    """LayerNorm over the last axis."""

    weight: torch.Tensor
    bias: torch.Tensor
    eps: float

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True)
class BlockView:
    """x + proj(attention(qkv(norm1(x)))), then x + lin2(gelu(lin1(norm2(x)))), on maps."""

    index: int
    window: int  # side in tokens; 0 attends globally
    hidden: int
    norm1: Norm
    qkv: Apply
    attention: Apply
    proj: Apply
    norm2: Norm
    lin1: Apply
    lin2: Apply

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        regions = split_windows(self.norm1(x), self.window)  # (B·n, L, C)
        regions = self.proj(self.attention(self.qkv(regions)))
        x = x + merge_windows(regions, self.window, x.shape[1])
        return x + self._mlp(self.norm2(x))

    def _mlp(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            return self.lin2(functional.gelu(self.lin1(x)))
        rows = max(64, _PIECE // self.hidden)
        flat = x.reshape(-1, x.shape[-1])
        parts = [self.lin2(functional.gelu(self.lin1(part))) for part in torch.split(flat, rows)]
        return torch.cat(parts).view(x.shape)


@dataclass(frozen=True)
class EncoderView:
    """Images (B, 3, R, R) to embeddings (B, 256, R / patch, R / patch).

    `pool_before` is the place in `blocks` at which the token map is halved, None for never. With
    `checkpoint` a block keeps its input alone for backward, and runs once more there.
    """

    patch: int
    patch_embed: Apply
    position: torch.Tensor  # (1, g, g, C)
    blocks: tuple[BlockView, ...]
    pool_before: int | None
    neck_linear: Apply
    neck_norm: Norm
    neck_conv: Apply
    out_norm: Norm
    checkpoint: bool = False

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        x = self.tokens(images)
        for place in range(len(self.blocks)):
            x = self._kept(place, x) if self.checkpoint else self.block(place, x)
        return self.neck(x)

    def _kept(self, place: int, x: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return self.block(place, x)
        # Nothing in a block is random, so no generator needs to be put back.
        y: torch.Tensor = checkpoint(
            self.block, place, x, use_reentrant=False, preserve_rng_state=False
        )
        return y

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        """Patch embedding plus positions: (B, g, g, C)."""
        b, c, side, _ = images.shape
        p, g = self.patch, side // self.patch
        patches = images.view(b, c, g, p, g, p).permute(0, 2, 4, 1, 3, 5)
        return self.patch_embed(patches.reshape(b, g, g, c * p * p)) + self.position

    def block(self, place: int, x: torch.Tensor) -> torch.Tensor:
        """The block at `place`, after the 2 x 2 average pooling if it comes first there."""
        if place == self.pool_before:
            x = functional.avg_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
        return self.blocks[place](x)

    def neck(self, x: torch.Tensor) -> torch.Tensor:
        """Two convolutions with a norm after each; a pooled map is resized first."""
        g = self.position.shape[1]
        if x.shape[1] != g:
            x = functional.interpolate(
                x.permute(0, 3, 1, 2), size=(g, g), mode="bilinear", align_corners=False
            ).permute(0, 2, 3, 1)
        x = self.neck_norm(self.neck_linear(x.contiguous()))
        return self.out_norm(self.neck_conv(x)).permute(0, 3, 1, 2).contiguous()
