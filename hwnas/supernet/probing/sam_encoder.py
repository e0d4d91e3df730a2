"""One subnet of a SAM image encoder as an ordinary floating-point module with its own weights.

The forward pass is that of the supernet (`encoder_view.py`); layers are modules, so that they can
be drawn anew, hooked and differentiated. q, k and v are three layers, so that a fused model scores
as an unfused one does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hwnas.quant.bits import FLOAT_BITS
from hwnas.supernet.attention import Attention
from hwnas.supernet.encoder_layers import Apply
from hwnas.supernet.encoder_view import BlockView, EncoderView, Norm
from hwnas.supernet.position_tables import by_pair
from hwnas.supernet.probing.probe import ProbedLayer
from hwnas.supernet.trainable_attention import TrainableAttention

__all__ = ["ProbedEncoder"]

_LARGE_GRID = 48  # from here on a block is run twice rather than kept: 768 px and more


class ProbedEncoder(nn.Module):
    """Images (B, 3, R, R) to embeddings (B, 256, g, g), copied from an unquantized view."""

    def __init__(self, view: EncoderView) -> None:
        super().__init__()
        self.patch_embed = _linear(view.patch_embed)
        self.blocks = nn.ModuleList(_Block(block) for block in view.blocks)
        self.neck_linear, self.neck_norm = _linear(view.neck_linear), _norm(view.neck_norm)
        self.neck_conv, self.out_norm = _NeckConv(view.neck_conv), _norm(view.out_norm)
        self.position: torch.Tensor
        self.register_buffer("position", view.position.detach().clone())
        self._patch, self._pool_before = view.patch, view.pool_before

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed normalized images."""
        blocks: Any = self.blocks
        neck_norm: Any = self.neck_norm
        out_norm: Any = self.out_norm
        view = EncoderView(
            self._patch, self.patch_embed, self.position, tuple(b.view() for b in blocks),
            self._pool_before, self.neck_linear, neck_norm, self.neck_conv, out_norm,
            checkpoint=self.position.shape[1] >= _LARGE_GRID,
        )  # fmt: skip
        return view(images)

    @torch.no_grad()
    def forget_tables(self) -> None:
        """Zero the tables of positions, as they are before any training."""
        blocks: Any = self.blocks
        self.position.zero_()
        for block in blocks:
            block.height.zero_()
            block.width.zero_()

    def average_attention(self) -> None:
        """Let attention average the values of its region."""
        blocks: Any = self.blocks
        for block in blocks:
            block.averages = True

    def layers(self) -> tuple[ProbedLayer, ...]:
        """The matrices and kernels, named after the layers of the arch's workload."""
        blocks: Any = self.blocks
        patch, neck = self.patch_embed.weight, self.neck_linear.weight
        kernel = self.neck_conv.conv.weight
        return (
            ProbedLayer("patch_embed", patch, len(patch), role="stem"),
            *(layer for block in blocks for layer in block.layers()),
            ProbedLayer("neck.0", neck, len(neck)),
            ProbedLayer("neck.2", kernel, len(kernel)),
        )

    @property
    def activations(self) -> tuple[nn.Module, ...]:
        """What hands on the input of each GELU."""
        blocks: Any = self.blocks
        return tuple(block.before_gelu for block in blocks)


class _Block(nn.Module):
    def __init__(self, view: BlockView) -> None:
        super().__init__()
        attention: Any = view.attention
        qkv: Any = view.qkv
        self.norm1, self.norm2 = _norm(view.norm1), _norm(view.norm2)
        self.qkv = _Qkv(qkv.weight, qkv.bias)
        self.proj, self.lin1, self.lin2 = (_linear(x) for x in (view.proj, view.lin1, view.lin2))
        self.before_gelu = nn.Identity()
        self.height: torch.Tensor
        self.width: torch.Tensor
        for name, table in zip(("height", "width"), _tables(attention), strict=True):
            self.register_buffer(name, table)
        self._shape = attention.side, attention.heads, attention.head_dim
        self._place = view.index, view.window, view.hidden
        self.averages = False

    def view(self) -> BlockView:
        """The block as the forward pass wants it."""
        side, heads, head_dim = self._shape
        attention: Apply = _average_values
        if not self.averages:
            attention = TrainableAttention(
                side, heads, head_dim, self.height, self.width, None, FLOAT_BITS, windows=1
            )
        norm1: Any = self.norm1
        norm2: Any = self.norm2
        return BlockView(
            *self._place, norm1, self.qkv, attention, self.proj, norm2, self._widen, self.lin2
        )

    def layers(self) -> tuple[ProbedLayer, ...]:
        """q, k, v and proj see padded windows; what is charged is the map, which lin1 sees."""
        name = f"blocks.{self._place[0]}"
        named = {"q": self.qkv.q, "k": self.qkv.k, "v": self.qkv.v, "proj": self.proj}
        attention = (
            ProbedLayer(f"{name}.{key}", layer.weight, len(layer.weight), role="attention",
                        sized_by=f"{name}.lin1")
            for key, layer in named.items()
        )  # fmt: skip
        mlp = (
            ProbedLayer(f"{name}.{key}", layer.weight, len(layer.weight))
            for key, layer in (("lin1", self.lin1), ("lin2", self.lin2))
        )
        return (*attention, *mlp)

    def _widen(self, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.before_gelu(self.lin1(x))
        return hidden


class _Qkv(nn.Module):
    """Three layers whose outputs are joined: (..., C) to (..., 3 inner)."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__()
        self.q, self.k, self.v = (
            _filled(w, b) for w, b in zip(weight.chunk(3), bias.chunk(3), strict=True)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.q(x), self.k(x), self.v(x)], dim=-1)


class _NeckConv(nn.Module):
    """A convolution without bias on maps (B, g, g, C)."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        outputs, inputs, side, _ = stock.weight.shape
        # skip_init: a constructor would draw weights from the global generator.
        self.conv: nn.Conv2d = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Conv2d, inputs, outputs, side, padding=side // 2, bias=False
        )
        self.conv.weight = nn.Parameter(stock.weight.detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.conv(x.permute(0, 3, 1, 2))
        return maps.permute(0, 2, 3, 1)


def _average_values(qkv: torch.Tensor) -> torch.Tensor:
    """Give each token of (B, L, 3 inner) the mean of all values: (B, L, inner)."""
    values = qkv.chunk(3, dim=-1)[2]
    return values.mean(dim=1, keepdim=True).expand_as(values)


def _linear(stock: Any) -> nn.Linear:
    return _filled(stock.weight, stock.bias)


def _filled(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    layer: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Linear, weight.shape[1], weight.shape[0]
    )
    layer.weight = nn.Parameter(weight.detach().clone())
    layer.bias = nn.Parameter(bias.detach().clone())
    return layer


def _norm(stock: Norm) -> nn.LayerNorm:
    norm = nn.LayerNorm(stock.weight.shape, eps=stock.eps)
    norm.weight = nn.Parameter(stock.weight.detach().clone())
    norm.bias = nn.Parameter(stock.bias.detach().clone())
    return norm


def _tables(attention: Attention) -> tuple[torch.Tensor, torch.Tensor]:
    """Height and width tables by pair of coordinates, out of the one of `by_offset`."""
    if attention.table is None:
        none = torch.zeros(2 * attention.side - 1, attention.head_dim)
        return by_pair(none), by_pair(none)
    height, width = (half.flip(0) for half in attention.table.detach().clone().chunk(2))
    return by_pair(height), by_pair(width)
