"""Boxes and points as prompts, for any input resolution and any batch.

The stock `PromptEncoder` divides by the one input size that it was built for and broadcasts the
dense prompt to one grid; these functions take both from the call. Its weights are used as they are.

A model whose geometry has `drawn_boxes` gets a box twice: as two tokens, and as a mask prompt, that
is as the map of how much of each cell the box covers, from -1 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

__all__ = [
    "EmbeddedPrompts",
    "dense_positions",
    "dense_prompts",
    "draw_boxes",
    "embed_boxes",
    "embed_points",
    "embed_prompts",
]

_CELLS = 4  # of a mask prompt along one of the embedding's


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedPrompts:
    """P prompts of each image.

    Attributes:
        sparse: Tokens (..., P, n, 256).
        boxes: What is drawn (..., P, 4), in pixels of the decoded map, NaN for a prompt that is
            none; None where the model draws nothing.
    """

    sparse: torch.Tensor
    boxes: torch.Tensor | None = None

    def dense(self, sam: Any, grid: int) -> torch.Tensor | None:
        """What each prompt adds to an embedding (..., P, 256, grid, grid); None if all alike."""
        return None if self.boxes is None else dense_prompts(sam, self.boxes, grid)


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
) -> EmbeddedPrompts:
    """Embed boxes (B, n, 4) and foreground points (B, m, 1, 2) as one batch of n + m prompts.

    They fit together, as a box and a point with its padding are two tokens each.
    """
    labels = torch.ones(points.shape[:-1], device=points.device)
    tokens = [embed_boxes(sam, boxes, resolution), embed_points(sam, points, labels, resolution)]
    drawn = None
    if sam.geometry.drawn_boxes:
        none = boxes.new_full((*points.shape[:2], 4), torch.nan)
        drawn = torch.cat([boxes, none], dim=1)
    return EmbeddedPrompts(torch.cat(tokens, dim=1), drawn)


def draw_boxes(boxes: torch.Tensor, side: int, cell: float) -> torch.Tensor:
    """Draw boxes (..., 4) in pixels on a map (..., side, side) of cells of `cell` pixels.

    A box covers its last pixel too. 1 where a cell lies inside, -1 outside, between where a part.
    """
    edges = torch.arange(side, dtype=boxes.dtype, device=boxes.device) * cell
    first, last = boxes[..., :2, None], boxes[..., 2:, None] + 1
    share = (torch.minimum(last, edges + cell) - torch.maximum(first, edges)).clamp(min=0) / cell
    across, down = share.unbind(-2)  # (..., side) each
    return 2 * down[..., :, None] * across[..., None, :] - 1


def dense_prompts(sam: Any, boxes: torch.Tensor, grid: int) -> torch.Tensor:
    """What boxes (..., 4) add to an embedding, (..., 256, grid, grid).

    Equal to the stock encoder given `draw_boxes` as masks; where a box is NaN, given none.
    """
    encoder = sam.prompt_encoder
    none = encoder.no_mask_embed.weight[0][:, None, None]
    drawn = ~boxes[..., 0].isnan()
    dense: torch.Tensor = none.expand(*drawn.shape, -1, grid, grid)
    if not drawn.any():
        return dense
    maps = draw_boxes(boxes[drawn], _CELLS * grid, sam.geometry.patch / _CELLS)
    dense = dense.clone()
    dense[drawn] = encoder.mask_downscaling(maps[:, None]).to(dense.dtype)
    return dense


def dense_positions(sam: Any, grid: int) -> torch.Tensor:
    """The positional encoding of an embedding grid, (1, 256, grid, grid)."""
    positions: torch.Tensor = sam.prompt_encoder.pe_layer((grid, grid))
    return positions[None]


def _positions(encoder: Any, xy: torch.Tensor, resolution: int) -> torch.Tensor:
    flat = xy.reshape(1, -1, 2)
    encoded: torch.Tensor = encoder.pe_layer.forward_with_coords(flat, (resolution, resolution))
    return encoded.reshape(*xy.shape[:-1], encoded.shape[-1])
