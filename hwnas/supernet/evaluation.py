"""Masks for prompts at the original size, and their agreement with annotated objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hwnas.data.folder import LabeledImage
from hwnas.data.prompts import Prompts, prompts_of
from hwnas.data.scores import iou_of_masks
from hwnas.data.transforms import postprocess, preprocess
from hwnas.errors import DataError
from hwnas.supernet.decoder import decode
from hwnas.supernet.prompting import embed_boxes, embed_points
from hwnas.supernet.sam_model import encode

__all__ = [
    "PROMPT_KINDS",
    "Embed",
    "PromptKind",
    "evaluate_image",
    "evaluate_images",
    "predict_masks",
    "segment",
]

PromptKind = Literal["box", "point"]
PROMPT_KINDS: tuple[PromptKind, ...] = ("box", "point")
Embed = Callable[[torch.Tensor], torch.Tensor]
_CHUNK = 32  # prompts decoded together; bounds the memory of full-size masks


@torch.no_grad()
def predict_masks(
    sam: Any,
    embedding: torch.Tensor,
    size: tuple[int, int],
    prompts: Prompts,
    *,
    prompt: PromptKind,
) -> torch.Tensor:
    """Masks (n, H, W) bool at the original `size` for n prompts on one embedding (1, 256, g, g).

    Boxes or center-most points are in pixels of the original image.
    """
    resolution = embedding.shape[-1] * sam.geometry.patch
    scale = resolution / max(size)
    if prompt == "box":
        sparse = embed_boxes(sam, torch.from_numpy(prompts.boxes) * scale, resolution)
    else:
        points = (torch.from_numpy(prompts.points)[:, None] + 0.5) * scale - 0.5
        sparse = embed_points(sam, points, torch.ones(points.shape[:2]), resolution)
    logits, _ = decode(sam, embedding, sparse[None])
    return postprocess(logits[0, :, 0], size) > 0


@torch.no_grad()
def segment(
    sam: Any,
    image: NDArray[np.uint8],
    prompts: Prompts,
    *,
    resolution: int,
    prompt: PromptKind,
) -> NDArray[np.bool_]:
    """Masks (n, H, W) of one image (H, W, 3) for n prompts, by the model's own encoder."""
    embedding = encode(sam, preprocess(image, resolution)[None])
    size = (image.shape[0], image.shape[1])
    masks: NDArray[np.bool_] = predict_masks(sam, embedding, size, prompts, prompt=prompt).numpy()
    return masks


def evaluate_image(
    sam: Any,
    labeled: LabeledImage,
    *,
    resolution: int,
    prompt: PromptKind,
    embed: Embed | None = None,
    max_instances: int | None = None,
    rng: np.random.Generator | None = None,
) -> NDArray[np.float64]:
    """IoU at the original size for every object of one image; (n,).

    `embed` maps (1, 3, R, R) to (1, 256, g, g); the model's own encoder if not given.
    `max_instances` objects are drawn by `rng` where there are more (all by default).
    """
    prompts = _capped(prompts_of(labeled.instances), max_instances, rng)
    size = (labeled.image.shape[0], labeled.image.shape[1])
    with torch.no_grad():
        image = preprocess(labeled.image, resolution)[None]
        embedding = embed(image) if embed is not None else encode(sam, image)
    scores = []
    for start in range(0, len(prompts.ids), _CHUNK):
        part = _rows(prompts, slice(start, start + _CHUNK))
        masks = predict_masks(sam, embedding, size, part, prompt=prompt).numpy()
        scores.append(iou_of_masks(masks, labeled.instances == part.ids[:, None, None]))
    return np.concatenate(scores)


def evaluate_images(
    sam: Any,
    images: Sequence[LabeledImage],
    *,
    resolution: int,
    prompt: PromptKind,
    embed: Embed | None = None,
    max_instances: int | None = None,
    seed: int = 0,
) -> list[NDArray[np.float64]]:
    """`evaluate_image` for each image; a capped draw depends on the seed and the image's index."""
    return [
        evaluate_image(
            sam,
            labeled,
            resolution=resolution,
            prompt=prompt,
            embed=embed,
            max_instances=max_instances,
            rng=np.random.default_rng([seed, index]),
        )
        for index, labeled in enumerate(images)
    ]


def _capped(prompts: Prompts, limit: int | None, rng: np.random.Generator | None) -> Prompts:
    if limit is None or len(prompts.ids) <= limit:
        return prompts
    if rng is None:
        raise DataError(f"{len(prompts.ids)} objects, limit {limit}: give a generator to draw them")
    return _rows(prompts, np.sort(rng.choice(len(prompts.ids), limit, replace=False)))


def _rows(prompts: Prompts, rows: slice | NDArray[np.int64]) -> Prompts:
    return Prompts(prompts.ids[rows], prompts.boxes[rows], prompts.points[rows])
