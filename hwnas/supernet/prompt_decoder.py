"""The mask decoder for many prompts of one image, when no gradients are wanted.

`decoder.decode` runs the stock two-way transformer, whose image side is copied for every prompt
and projected to queries, keys and values five times. Here the image side stays shared until a
drawn box or the first layer has written to it, and the projections move to the few prompt tokens:
with T tokens and N >> T pixels, (X W_k') q = X (W_k' q), and (A X) W_v instead of A (X W_v). Equal
to `decode` up to rounding; less than half of its multiplications.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional

from hwnas.supernet.prompting import EmbeddedPrompts, dense_positions, dense_prompts

__all__ = ["PromptDecoder"]

_CHUNK_BYTES = 4 << 20  # of image tokens at work together; more leave the cache of a CPU


class PromptDecoder:
    """Mask 0 of many prompts on one embedding; keeps what does not depend on the image.

    Reads the weights of `sam` at each call; make a new one after they have changed.
    """

    def __init__(self, sam: Any) -> None:
        self._sam = sam
        self._positions: dict[int, torch.Tensor] = {}

    @torch.no_grad()
    def __call__(self, embedding: torch.Tensor, prompts: EmbeddedPrompts) -> torch.Tensor:
        """Mask logits (P, 4g, 4g) of P prompts on one embedding (256, g, g)."""
        grid = embedding.shape[-1]
        chunk = max(1, _CHUNK_BYTES // (embedding.numel() * embedding.element_size()))
        masks = [
            self._decode(self._image(embedding, boxes), sparse, grid)
            for sparse, boxes in _split(prompts, chunk)
        ]
        return torch.cat(masks) if masks else embedding.new_empty(0, 4 * grid, 4 * grid)

    def _image(self, embedding: torch.Tensor, boxes: torch.Tensor | None) -> torch.Tensor:
        """The image side (P, N, 256); (1, N, 256) where no prompt changes it."""
        if boxes is None:
            dense: torch.Tensor = self._sam.prompt_encoder.no_mask_embed.weight[:, :, None, None]
        else:
            dense = dense_prompts(self._sam, boxes, embedding.shape[-1])
        return (embedding + dense).flatten(2).transpose(1, 2).contiguous()

    def _decode(self, image: torch.Tensor, sparse: torch.Tensor, grid: int) -> torch.Tensor:
        decoder, positions = self._sam.mask_decoder, self._positions_of(grid)
        transformer = decoder.transformer
        fixed = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([fixed.expand(len(sparse), -1, -1), sparse], dim=1)  # (P, T, 256)
        queries, keys = tokens, image
        for layer in transformer.layers:
            queries = layer.norm1(_attend_to_self(layer, queries, tokens))
            placed = keys + positions
            read = _read_image(layer.cross_attn_token_to_image, queries + tokens, placed, keys)
            queries = layer.norm2(queries + read)
            queries = layer.norm3(queries + layer.mlp(queries))
            written = _write_image(
                layer.cross_attn_image_to_token, placed, queries + tokens, queries, keys
            )
            keys = layer.norm4(written)
        # Only mask token 0 is read out; the other tokens have done their part.
        query, token = queries[:, 1:2], tokens[:, 1:2]
        final = transformer.final_attn_token_to_image
        read = _read_image(final, query + token, keys + positions, keys)
        head = decoder.output_hypernetworks_mlps[0](transformer.norm_final_attn(query + read)[:, 0])
        return _mask(decoder.output_upscaling, keys, head, grid)

    def _positions_of(self, grid: int) -> torch.Tensor:
        if grid not in self._positions:
            dense = dense_positions(self._sam, grid)
            self._positions[grid] = dense.flatten(2).transpose(1, 2).contiguous()  # (1, N, 256)
        return self._positions[grid]


def _split(
    prompts: EmbeddedPrompts, count: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
    """Tokens and boxes of at most `count` prompts at a time; boxes only where one is drawn."""
    for start in range(0, len(prompts.sparse), count):
        rows = slice(start, start + count)
        boxes = None if prompts.boxes is None else prompts.boxes[rows]
        drawn = boxes is not None and not bool(boxes.isnan().all())
        yield prompts.sparse[rows], boxes if drawn else None


def _attend_to_self(layer: Any, queries: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    if layer.skip_first_layer_pe:
        read: torch.Tensor = layer.self_attn(q=queries, k=queries, v=queries)
        return read
    placed = queries + tokens
    read = layer.self_attn(q=placed, k=placed, v=queries)
    return queries + read


def _read_image(
    attention: Any, queries: torch.Tensor, placed: torch.Tensor, keys: torch.Tensor
) -> torch.Tensor:
    """Attention of tokens (P, T, 256) to pixels (P or 1, N, 256); `placed` has the positions."""
    p, t, _ = queries.shape
    heads = attention.num_heads
    q = attention.q_proj(queries)
    if len(keys) == 1:  # one image side for all prompts: project it once
        k, v = attention.k_proj(placed), attention.v_proj(keys)
        q, k, v = (x.reshape(1, -1, heads, q.shape[-1] // heads).transpose(1, 2) for x in (q, k, v))
        read = functional.scaled_dot_product_attention(q, k, v)  # (1, heads, P·T, c)
        out: torch.Tensor = attention.out_proj(read.transpose(1, 2).reshape(p, t, -1))
        return out
    # The bias of the keys adds the same to all scores of a token: the softmax does not see it.
    scale = 1 / math.sqrt(q.shape[-1] // heads)
    seek = torch.einsum("pthc,hcd->phtd", q.unflatten(-1, (heads, -1)) * scale,
                        attention.k_proj.weight.unflatten(0, (heads, -1)))  # fmt: skip
    share = (seek.flatten(1, 2) @ placed.transpose(1, 2)).softmax(-1)  # (P, heads·T, N)
    seen = (share @ keys).reshape(p, heads, t, -1)
    values = torch.einsum("phtd,hcd->pthc", seen, attention.v_proj.weight.unflatten(0, (heads, -1)))
    out = attention.out_proj(values.flatten(2) + attention.v_proj.bias)
    return out


def _write_image(
    attention: Any,
    placed: torch.Tensor,
    queries: torch.Tensor,
    values: torch.Tensor,
    keys: torch.Tensor,
) -> torch.Tensor:
    """Pixels (P or 1, N, 256) plus their attention to tokens (P, T, 256): (P, N, 256)."""
    p, t, width = queries.shape
    heads, n = attention.num_heads, keys.shape[1]
    k = attention.k_proj(queries).unflatten(-1, (heads, -1))  # (P, T, heads, c)
    k = k / math.sqrt(k.shape[-1])
    query = attention.q_proj
    seek = torch.einsum("pthc,hcd->phtd", k, query.weight.unflatten(0, (heads, -1))).flatten(1, 2)
    offset = torch.einsum("pthc,hc->pht", k, query.bias.unflatten(0, (heads, -1))).reshape(p, -1, 1)
    pixels = placed.expand(p, n, width).transpose(1, 2)
    scores = torch.baddbmm(offset, seek, pixels)  # (P, heads·T, N): the softmax runs along pixels
    share = scores.view(p, heads, t, n).softmax(2).view(p, -1, n).transpose(1, 2)
    v = attention.v_proj(values).unflatten(-1, (heads, -1))
    written = torch.einsum("pthc,dhc->phtd", v, attention.out_proj.weight.unflatten(1, (heads, -1)))
    residual = (keys + attention.out_proj.bias).expand(p, n, width)
    return torch.baddbmm(residual, share, written.flatten(1, 2))


def _mask(upscaling: Any, image: torch.Tensor, head: torch.Tensor, grid: int) -> torch.Tensor:
    """Upscale pixels (P, N, 256) and multiply by the heads (P, 32): (P, 4g, 4g)."""
    first, norm, _, second, _ = upscaling
    x = _up(first, image)  # (P, N, 4, 64)
    x = functional.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps)
    gelu_ = torch.ops.aten.gelu_  # in place; `functional` has no such
    x = gelu_(_up(second, gelu_(x)))  # (P, N, 4, 4, 32)
    p = len(head)
    logits = x.reshape(p, -1, x.shape[-1]) @ head[:, :, None]
    logits = logits.reshape(p, grid, grid, 2, 2, 2, 2)  # P, y, x, y/2, x/2, y/4, x/4
    masks: torch.Tensor = logits.permute(0, 1, 3, 5, 2, 4, 6).reshape(p, 4 * grid, 4 * grid)
    return masks


def _up(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """A 2 x 2, stride-2 transposed convolution of pixels (..., in) as (..., 4, out)."""
    kernel = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)
    out: torch.Tensor = functional.linear(x, kernel, layer.bias.repeat(4))
    return out.reshape(*x.shape[:-1], 4, -1)
