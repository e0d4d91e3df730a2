"""Tokens as images: what adapters that look at neighbours need of the shape of x.

SAM's blocks hand their layers images (B, H, W, C), in windowed blocks windows (B * windows, h, w,
C). A sequence (B, L, C) is an image where L is a square. Anything else has no neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from hwnas.errors import ConfigError

__all__ = [
    "ImageGrid", "ReadsImages", "as_maps", "as_tokens", "joined", "real_tokens", "whole_images",
    "windowed",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImageGrid:
    """How many images a block was given, of `height` by `width` tokens."""

    images: int
    height: int
    width: int


@runtime_checkable
class ReadsImages(Protocol):
    """An adapter that is told which images the windows that it sees belong to; None for not."""

    grid: ImageGrid | None


def whole_images(blocks: Iterable[nn.Module]) -> list[RemovableHandle]:
    """Tell adapters within blocks about whole images, where their layers are given windows.

    SAM puts the windows of a batch into the first dimension of what a layer sees; the input of the
    block around it, (B, H, W, C), says how many images they belong to. `remove()` of the handles
    ends it.
    """

    def tell(block: nn.Module, grid: ImageGrid | None) -> None:
        for module in block.modules():
            if isinstance(module, ReadsImages):
                module.grid = grid

    handles = []
    for block in blocks:
        handles += [
            block.register_forward_pre_hook(lambda m, x: tell(m, ImageGrid(*x[0].shape[:3]))),
            block.register_forward_hook(lambda m, x, y: tell(m, None), always_call=True),
        ]
    return handles


def joined(windows: torch.Tensor, grid: ImageGrid) -> torch.Tensor:
    """Windows (B * n, h, w, C), those of an image together, as padded images (B, H', W', C).

    What is an image already stays as it is.

    Raises:
        ConfigError: they do not make up the images of `grid`.
    """
    count, h, w = windows.shape[:3]
    rows, columns = -(-grid.height // h), -(-grid.width // w)
    if count != grid.images * rows * columns:
        raise ConfigError(
            f"{count} windows of {h} x {w} tokens are not {grid.images} images of {grid.height} x "
            f"{grid.width}; let `whole_images` say what the block of this layer was given"
        )
    split = windows.reshape(grid.images, rows, columns, h, w, -1)
    return split.transpose(2, 3).reshape(grid.images, rows * h, columns * w, -1)


def windowed(images: torch.Tensor, h: int, w: int) -> torch.Tensor:
    """Padded images (B, H', W', C) as windows (B * n, h, w, C): the reverse of `joined`."""
    b, height, width = images.shape[:3]
    split = images.reshape(b, height // h, h, width // w, w, -1)
    return split.transpose(2, 3).reshape(-1, h, w, images.shape[-1])


def as_maps(tokens: torch.Tensor) -> torch.Tensor:
    """Tokens (B, H, W, C), or (B, L, C) with square L, as maps (B, C, H, W).

    Raises:
        ConfigError: x has no two sides.
    """
    if tokens.ndim == 3:
        side = math.isqrt(tokens.shape[1])
        if side * side == tokens.shape[1]:
            tokens = tokens.reshape(len(tokens), side, side, -1)
    if tokens.ndim != 4:
        raise ConfigError(
            f"an adapter that reads neighbouring tokens was given {tuple(tokens.shape)}; expected "
            "(B, H, W, C), or (B, L, C) with L a square; adapt other layers, or use operations "
            "that read one token (op_set 'token')"
        )
    return tokens.permute(0, 3, 1, 2)


def as_tokens(maps: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Maps (B, C, H, W) as tokens with the leading sizes of `shape`: (..., C)."""
    return maps.permute(0, 2, 3, 1).reshape(*shape[:-1], maps.shape[1])


def real_tokens(maps: torch.Tensor) -> torch.Tensor:
    """Which tokens of maps (B, C, H, W) are not padding, 1 or 0: (B, 1, H, W).

    SAM pads windows with zeros after the norm, so a padded token enters qkv as zeros and leaves
    any matrix without a bias as zeros.
    """
    return maps.detach().ne(0).any(dim=1, keepdim=True).to(maps.dtype)
