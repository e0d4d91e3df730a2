"""Attention with decomposed relative positions and quantized operands, for inference.

segment_anything `modeling/image_encoder.py`, `Attention`: scores (q . k) / sqrt(head_dim) plus
relative terms of the unscaled q; softmax; sum of values. Quantized: q, k and v signed and
symmetric, softmax output unsigned, tables at 8 bits. Works in pieces that fit the cache of a
processor, because a quantized softmax keeps `scaled_dot_product_attention` out of reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hwnas.quant.bits import signed_codes, unsigned_codes

__all__ = ["Attention", "AttentionGrids"]

_PIECE = 1 << 18  # scores held at a time: 1 MiB in float32


@dataclass(frozen=True)
class AttentionGrids:
    """Scales of queries, keys, values and softmax output at one bit-width."""

    query: float
    key: float
    value: float
    softmax: float
    bits: int


@dataclass(frozen=True)
class Attention:
    """qkv (B, S·S, 3·heads·head_dim) to (B, S·S, heads·head_dim).

    `table` is the matrix of `by_offset` at this side, or None where all its entries are zero.
    """

    side: int
    heads: int
    head_dim: int
    table: torch.Tensor | None
    grids: AttentionGrids | None

    def __call__(self, qkv: torch.Tensor) -> torch.Tensor:
        b, length, _ = qkv.shape
        q, k, v = self._split(qkv)  # (B·heads, S·S, head_dim) each
        scale, value_scale = self.head_dim**-0.5, 1.0
        if self.grids is not None:
            scale *= self.grids.query * self.grids.key
            value_scale = self.grids.value * self.grids.softmax
        relative = None if self.table is None else self._relative(q, self.table)
        out = torch.empty_like(v)
        for items, rows in _pieces(b * self.heads, self.side):
            tokens = slice(rows.start * self.side, rows.stop * self.side)
            scores = self._scores(q[items, tokens], k[items], scale, relative, items, rows)
            torch.softmax(scores, dim=-1, out=scores)
            self._quantize_softmax(scores)
            torch.bmm(scores, v[items], out=out[items, tokens])
        merged = out.view(b, self.heads, length, self.head_dim).transpose(1, 2)
        return (merged * value_scale).reshape(b, length, -1)

    def _split(self, qkv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values as integer codes in float32, or as they are."""
        b, length, _ = qkv.shape
        parts = qkv.view(b, length, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        split = torch.empty(parts.shape, device=qkv.device)
        if self.grids is None:
            split.copy_(parts)
        else:
            grids = self.grids
            inverse = torch.tensor([1 / grids.query, 1 / grids.key, 1 / grids.value])
            torch.mul(parts, inverse.to(qkv.device).view(3, 1, 1, 1, 1), out=split)
            split.round_().clamp_(*signed_codes(grids.bits))
        q, k, v = split.view(3, b * self.heads, length, self.head_dim).unbind(0)
        return q, k, v

    def _relative(self, q: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        """Products of all queries with both tables: (B·heads, S, S, 2 (2 S - 1))."""
        factor = 1.0 if self.grids is None else self.grids.query
        products = (q.flatten(0, 1) @ table.t()).mul_(factor)
        return products.view(len(q), self.side, self.side, -1)

    def _scores(
        self, q: torch.Tensor, k: torch.Tensor, scale: float, relative: torch.Tensor | None,
        items: slice, rows: slice,
    ) -> torch.Tensor:  # fmt: skip
        scores = torch.empty(len(q), q.shape[1], k.shape[1], device=q.device)
        if relative is None:
            return torch.baddbmm(scores, q, k.transpose(1, 2), beta=0, alpha=scale, out=scores)
        height, width = _terms(relative, items, rows)
        s = self.side
        terms = scores.view(len(q), -1, s, s, s)  # (n, query row, query column, key row, column)
        torch.add(height[..., None], width[..., None, :], out=terms)
        return scores.baddbmm_(q, k.transpose(1, 2), alpha=scale)

    def _quantize_softmax(self, scores: torch.Tensor) -> None:
        if self.grids is not None:
            _, highest = unsigned_codes(self.grids.bits)
            scores.mul_(1.0 / self.grids.softmax).round_().clamp_max_(highest)


def _pieces(items: int, side: int) -> list[tuple[slice, slice]]:
    """Ranges of (batch and head) and of query rows whose scores fit a piece."""
    area = side**4
    if area > _PIECE:
        step = max(1, _PIECE // side**3)
        return [
            (slice(i, i + 1), slice(row, min(row + step, side)))
            for i in range(items)
            for row in range(0, side, step)
        ]
    step = max(1, _PIECE // area)
    return [(slice(i, min(i + step, items)), slice(0, side)) for i in range(0, items, step)]


def _terms(relative: torch.Tensor, items: slice, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Views (n, rows, S, S) of the height and width terms; the last axis counts key coordinates.

    A query in row i reads from column S - 1 - i of the products on, so one step in i moves the
    start of the view back by one.
    """
    _, side, _, columns = relative.shape
    shape = (items.stop - items.start, rows.stop - rows.start, side, side)
    first = relative.storage_offset() + (items.start * side + rows.start) * side * columns
    per_item, per_row = side * side * columns, side * columns
    height = relative.as_strided(
        shape, (per_item, per_row - 1, columns, 1), first + side - 1 - rows.start
    )
    width = relative.as_strided(
        shape, (per_item, per_row, columns - 1, 1), first + (2 * side - 1) + side - 1
    )
    return height, width
