"""The mask decoder for several images and several prompts in one call."""

from __future__ import annotations

from typing import Any

import torch

from hwnas.supernet.prompting import dense_positions

__all__ = ["decode"]


def decode(
    sam: Any, embeddings: torch.Tensor, sparse: torch.Tensor, *, multimask: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode P prompts for each of B images.

    `embeddings` is (B, 256, g, g), `sparse` (B, P, n, 256). Returns mask logits (B, P, M, 4g, 4g)
    and predicted IoU (B, P, M); M = 1 (mask token 0), or 3 (tokens 1 to 3) with `multimask`.

    Equal to the stock `MaskDecoder`, which repeats the embeddings of a whole batch for every
    prompt and is therefore right for one image only.
    """
    decoder = sam.mask_decoder
    b, p, _, dim = sparse.shape
    grid = embeddings.shape[-1]
    fixed = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])  # (1 + 4, 256)
    tokens = torch.cat([fixed.expand(b * p, -1, -1), sparse.flatten(0, 1)], dim=1)
    image = embeddings + sam.prompt_encoder.no_mask_embed.weight.reshape(1, dim, 1, 1)
    image = image[:, None].expand(b, p, dim, grid, grid).flatten(0, 1)  # (B·P, 256, g, g)
    hidden, image = decoder.transformer(image, dense_positions(sam, grid).to(image.dtype), tokens)
    image = image.transpose(1, 2).unflatten(2, (grid, grid))  # (B·P, 256, g, g)
    upscaled = decoder.output_upscaling(image).flatten(2)  # (B·P, 32, 16·g·g)
    wanted = range(1, decoder.num_mask_tokens) if multimask else range(1)
    heads = [decoder.output_hypernetworks_mlps[i](hidden[:, 1 + i]) for i in wanted]
    masks = torch.stack(heads, dim=1) @ upscaled  # (B·P, M, 16·g·g)
    iou = decoder.iou_prediction_head(hidden[:, 0])[:, wanted.start : wanted.stop]
    return masks.reshape(b, p, len(wanted), 4 * grid, 4 * grid), iou.reshape(b, p, -1)
