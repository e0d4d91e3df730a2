"""Stage d: the prompt encoder and the mask decoder on cached embeddings of a frozen encoder.

A decoder needs thousands of steps to learn what a prompt's position means, an encoder does not have
to be run for any of them. Windows of the embedding make a step cheaper still: positions keep
their place in the whole image, so what is learned holds there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from hwnas.data.views import View
from hwnas.supernet.decoder import decode
from hwnas.supernet.prompting import dense_positions, embed_prompts
from hwnas.supernet.training.batches import Batch
from hwnas.supernet.training.losses import mask_losses
from hwnas.supernet.training.precision import float32
from hwnas.supernet.training.pretraining.drawing import Draw
from hwnas.supernet.training.pretraining.features import CachedViews
from hwnas.supernet.training.pretraining.recipe import Recipe

__all__ = ["cached_rows", "decoder_loss", "prompt_losses", "slice_view", "window_of"]

_CELL = 16  # pixels


def decoder_loss(
    sam: Any, cached: Sequence[CachedViews], recipe: Recipe
) -> Callable[[Draw], Mapping[str, torch.Tensor]]:
    """The loss of a step of stage d; only prompt encoder and mask decoder get gradients."""
    sam.requires_grad_(False)
    sam.prompt_encoder.requires_grad_(True)
    sam.mask_decoder.requires_grad_(True)
    device = next(sam.parameters()).device

    def loss(draw: Draw) -> Mapping[str, torch.Tensor]:
        views, features = cached_rows(cached, draw)
        embeddings = features.permute(0, 3, 1, 2)  # (B, 256, g, g)
        grid = embeddings.shape[-1]
        side = draw.mix.window or grid
        corners = [window_of(view, side, row) for view, row in zip(views, draw.rows, strict=True)]
        parts = [slice_view(view, y, x, side) for view, (y, x) in zip(views, corners, strict=True)]
        batch = draw.batch(parts, recipe).to(device)
        cells = [(slice(y, y + side), slice(x, x + side)) for y, x in corners]
        whole = dense_positions(sam, grid)
        seen = torch.stack([e[:, y, x] for e, (y, x) in zip(embeddings, cells, strict=True)])
        return prompt_losses(
            sam,
            seen.to(device),
            batch,
            resolution=grid * _CELL,
            offsets=torch.tensor([(x * _CELL, y * _CELL) for y, x in corners], device=device),
            positions=torch.cat([whole[:, :, y, x] for y, x in cells]),
        )

    return loss


def window_of(view: View, side: int, rng: np.random.Generator) -> tuple[int, int]:
    """The first row and column, in cells, of a window of `side` cells with an object in it."""
    grid = view.instances.shape[0] // _CELL
    ys, xs = np.nonzero(view.instances)
    if side >= grid or not len(ys):
        return 0, 0
    pick = int(rng.integers(len(ys)))
    inside = rng.integers(side, size=2)  # the picked pixel's cell within the window
    y, x = np.clip((ys[pick] // _CELL, xs[pick] // _CELL) - inside, 0, grid - side)
    return int(y), int(x)


def slice_view(view: View, y: int, x: int, side: int) -> View:
    """The part of a view that `side` cells from cell (y, x) on cover."""
    top, left, size = y * _CELL, x * _CELL, side * _CELL
    rows, columns = slice(top, top + size), slice(left, left + size)
    height, width = (
        int(np.clip(n - o, 0, size)) for n, o in ((view.height, top), (view.width, left))
    )
    ids = np.ascontiguousarray(view.instances[rows, columns])
    return View(view.image[rows, columns], ids, height, width)


def prompt_losses(
    sam: Any,
    embedding: torch.Tensor,
    batch: Batch,
    *,
    resolution: int | None = None,
    offsets: torch.Tensor | None = None,
    positions: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Losses of the masks of a batch's boxes and points.

    Where the batch holds windows of larger views, `resolution` is that of the views, `offsets`
    (B, 2) the windows' x and y in pixels and `positions` (B, 256, g, g) those of their cells.
    """
    resolution = resolution or batch.resolution
    boxes, points = batch.boxes, batch.points
    if offsets is not None:
        boxes = boxes + offsets[:, None].repeat(1, 1, 2)
        points = points + offsets[:, None, None]
    prompts = embed_prompts(sam, boxes, points, resolution)
    if prompts.boxes is not None and offsets is not None:  # drawn in their window
        moved = prompts.boxes - offsets[:, None].repeat(1, 1, 2)
        prompts = replace(prompts, boxes=moved)
    dense = prompts.dense(sam, embedding.shape[-1])
    logits, iou = decode(sam, embedding, prompts.sparse, dense=dense, positions=positions)
    with float32(embedding.device):
        return mask_losses(
            logits[:, :, 0].flatten(0, 1).float(),
            iou[..., 0].flatten().float(),
            batch.targets.flatten(0, 1),
        )


def cached_rows(cached: Sequence[CachedViews], draw: Draw) -> tuple[list[View], torch.Tensor]:
    """The drawn views of one of the cached sets at the step's resolution, with their features."""
    fitting = [c for c in cached if c.resolution == draw.mix.resolution]
    picked = fitting[int(draw.rng.integers(len(fitting)))]
    rows = draw.pick(len(picked.views))
    return [picked.views[r] for r in rows], picked.features[rows].float()
