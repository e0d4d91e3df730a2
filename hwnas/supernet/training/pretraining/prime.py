"""Start values of the prompt encoder and mask decoder that look at the prompt from the first step.

With random projections a decoder spends its first thousands of steps learning that a prompt's
position and an image cell's position are the same kind of thing. Equal query and key projections
say so at once: their product is then the similarity of the Fourier features.
"""

from __future__ import annotations

import math
from typing import Any

import torch

__all__ = ["prime_prompting"]


@torch.no_grad()
def prime_prompting(
    sam: Any, *, position_scales: tuple[float, float], sharpness: float, kind_scale: float
) -> None:
    """Prepare a freshly built model, in place.

    `position_scales` multiply the Fourier frequencies, from the first to the last in a geometric
    series. The similarity of two positions is the mean of as many Gaussians: with a wide range it
    tells neighbors apart and still falls off slowly, where one scale can do only one of both.
    `sharpness` is the standard deviation,
    times 1/16, of the shared query and key projections of all attention between tokens and
    image; `kind_scale` multiplies the embeddings that tell boxes, points and the absent mask
    apart, so that they do not drown the position.
    """
    prompts, transformer = sam.prompt_encoder, sam.mask_decoder.transformer
    frequencies = prompts.pe_layer.positional_encoding_gaussian_matrix  # (2, 128)
    first, last = (math.log(scale) for scale in position_scales)
    frequencies *= torch.linspace(first, last, frequencies.shape[1]).exp()
    for embedding in (*prompts.point_embeddings, prompts.not_a_point_embed, prompts.no_mask_embed):
        embedding.weight *= kind_scale
    attentions = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    for attention in attentions:
        query, key = attention.q_proj, attention.k_proj
        query.weight.normal_(std=sharpness / query.weight.shape[1] ** 0.5)
        key.weight.copy_(query.weight)
        query.bias.zero_()
        key.bias.zero_()
