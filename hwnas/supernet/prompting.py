"""Boxes and points as sparse prompt tokens, for any input resolution and any batch.

The stock `PromptEncoder` divides by the one input size that it was built for and broadcasts the
dense prompt to one grid; these functions take both from the call. Its weights are used as they are.
"""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["dense_positions", "embed_boxes", "embed_points", "embed_prompts"]


def embed_boxes(sam: Any, boxes: torch.Tensor, resolution: int) -> torch.Tensor:
    """Embed boxes (..., 4) as tokens (..., 2, 256).

    Boxes are x0, y0, x1, y1 in pixels of the padded square input of `resolution` pixels. Equal to
    the stock encoder: half a pixel is added, the corners get embeddings 2 and 3.
    """
    encoder = sam.prompt_encoder
    corners = boxes.reshape(*boxes.shape[:-1], 2, 2) + 0.5  # (..., 2, xy)
    tokens = _positions(encoder, corners, resolution)
    kinds = torch.stack([encoder.point_embeddings[2].weight, encoder.point_embeddings[3].weight])
    return tokens + kinds[:, 0]


def embed_points(
    sam: Any, points: torch.Tensor, labels: torch.Tensor, resolution: int
) -> torch.Tensor:
    """Embed points (..., n, 2) with labels (..., n) as tokens (..., n + 1, 256).

    Label 1 is foreground, 0 background. The last token is the padding point that the stock
    encoder appends where no box is given.
    """
    encoder = sam.prompt_encoder
    tokens = _positions(encoder, points + 0.5, resolution)
    background, foreground = (encoder.point_embeddings[i].weight[0] for i in (0, 1))
    tokens = tokens + torch.where(labels[..., None] == 1, foreground, background)
    padding = encoder.not_a_point_embed.weight.expand(*tokens.shape[:-2], 1, -1)
    return torch.cat([tokens, padding], dim=-2)


def embed_prompts(
    sam: Any, boxes: torch.Tensor, points: torch.Tensor, resolution: int
) -> torch.Tensor:
    """Embed boxes (B, n, 4) and foreground points (B, m, 1, 2) as tokens (B, n + m, 2, 256).

    Both go into one batch, as a box and a point with its padding are two tokens each.
    """
    labels = torch.ones(points.shape[:-1], device=points.device)
    tokens = [embed_boxes(sam, boxes, resolution), embed_points(sam, points, labels, resolution)]
    return torch.cat(tokens, dim=1)


def dense_positions(sam: Any, grid: int) -> torch.Tensor:
    """The positional encoding of an embedding grid, (1, 256, grid, grid)."""
    positions: torch.Tensor = sam.prompt_encoder.pe_layer((grid, grid))
    return positions[None]


def _positions(encoder: Any, xy: torch.Tensor, resolution: int) -> torch.Tensor:
    flat = xy.reshape(1, -1, 2)
    encoded: torch.Tensor = encoder.pe_layer.forward_with_coords(flat, (resolution, resolution))
    return encoded.reshape(*xy.shape[:-1], -1)
