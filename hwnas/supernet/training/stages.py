"""The three stages: head of sam-vit-s, distillation of sam-vit-t, sam-vit-t end to end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hwnas.data.folder import LabeledImage
from hwnas.data.views import View, draw_view
from hwnas.supernet.decoder import decode
from hwnas.supernet.evaluation import Embed, evaluate_images
from hwnas.supernet.prompting import embed_boxes, embed_points
from hwnas.supernet.sam_model import encode
from hwnas.supernet.training.batches import Batch, batch_of, images_of
from hwnas.supernet.training.dense import DenseHead, dense_loss, dense_targets
from hwnas.supernet.training.features import CachedViews
from hwnas.supernet.training.loop import Stage
from hwnas.supernet.training.losses import embedding_loss, mask_losses
from hwnas.supernet.training.recipe import Mix, Recipe

__all__ = ["distill_stage", "end_to_end_stage", "head_stage"]


def head_stage(
    sam: Any,
    cached: Sequence[CachedViews],
    recipe: Recipe,
    validation: Sequence[LabeledImage],
    embed: Embed,
) -> Stage:
    """Train neck, prompt encoder and mask decoder on cached features of the frozen encoder."""
    sam.requires_grad_(False)
    sam.image_encoder.neck.requires_grad_(True)
    sam.prompt_encoder.requires_grad_(True)
    sam.mask_decoder.requires_grad_(True)

    def loss(mix: Mix, rng: np.random.Generator) -> Mapping[str, torch.Tensor]:
        views, features = _draw(cached, mix, rng)
        batch = batch_of(
            views,
            rng,
            prompts=mix.prompts,
            min_pixels=recipe.min_pixels,
            box_jitter=recipe.box_jitter,
        )
        embedding = sam.image_encoder.neck(features.permute(0, 3, 1, 2))
        return _prompt_losses(sam, embedding, batch)

    return Stage("s", 1, sam, recipe.s, loss, _validation(sam, recipe, validation, embed))


def distill_stage(
    sam: Any,
    head: DenseHead,
    teacher_neck: Any,
    cached: Sequence[CachedViews],
    recipe: Recipe,
    validation: Sequence[LabeledImage],
) -> Stage:
    """Train the encoder of `sam` on the teacher's neck output and the dense task (cached views).

    Images and teacher maps are turned and flipped together, eight ways; the teacher is not run
    again for these (it is nearly, not exactly, equivariant).
    """
    sam.requires_grad_(False)
    sam.image_encoder.requires_grad_(True)

    def loss(mix: Mix, rng: np.random.Generator) -> Mapping[str, torch.Tensor]:
        views, features = _draw(cached, mix, rng)
        with torch.no_grad():
            target = teacher_neck(features.permute(0, 3, 1, 2))
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        image, target = (_turned(x, turns, flip) for x in (images_of(views), target))
        ids = [_turned_ids(v.instances, turns, flip) for v in views]
        embedding = encode(sam, image)
        distil = embedding_loss(embedding, target)
        dense = dense_loss(head(embedding), dense_targets(ids))
        return {"loss": distil + recipe.dense * dense, "distil": distil, "dense": dense}

    module = torch.nn.ModuleDict({"sam": sam, "head": head})
    return Stage("t1", 2, module, recipe.t1, loss, _validation(sam, recipe, validation, None))


def end_to_end_stage(
    sam: Any,
    head: DenseHead,
    images: Sequence[LabeledImage],
    recipe: Recipe,
    validation: Sequence[LabeledImage],
) -> Stage:
    """Train all of `sam` on freshly drawn views with box and point prompts and the dense task."""
    sam.requires_grad_(True)

    def loss(mix: Mix, rng: np.random.Generator) -> Mapping[str, torch.Tensor]:
        rows = rng.choice(len(images), mix.images, replace=False)
        crop = 0.6 if mix.resolution <= 256 else 0.35
        views = [
            draw_view(
                images[row],
                mix.resolution,
                rng,
                crop=crop,
                recolor=bool(rng.random() < recipe.recolored),
            )
            for row in rows
        ]
        batch = batch_of(
            views,
            rng,
            prompts=mix.prompts,
            min_pixels=recipe.min_pixels,
            box_jitter=recipe.box_jitter,
        )
        embedding = encode(sam, batch.images)
        losses = _prompt_losses(sam, embedding, batch)
        dense = dense_loss(head(embedding), dense_targets([v.instances for v in views]))
        return {**losses, "loss": losses["loss"] + recipe.dense * dense, "dense": dense}

    module = torch.nn.ModuleDict({"sam": sam, "head": head})
    return Stage("t2", 3, module, recipe.t2, loss, _validation(sam, recipe, validation, None))


def _prompt_losses(sam: Any, embedding: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
    resolution = batch.resolution
    points = batch.points
    sparse = torch.cat(
        [
            embed_boxes(sam, batch.boxes, resolution),
            embed_points(sam, points, torch.ones(points.shape[:-1]), resolution),
        ],
        dim=1,
    )  # (B, P, 2, 256): a box and a point with its padding both are two tokens
    logits, iou = decode(sam, embedding, sparse)
    return mask_losses(
        logits[:, :, 0].flatten(0, 1), iou[..., 0].flatten(), batch.targets.flatten(0, 1)
    )


def _draw(
    cached: Sequence[CachedViews], mix: Mix, rng: np.random.Generator
) -> tuple[list[View], torch.Tensor]:
    fitting = [c for c in cached if c.resolution == mix.resolution]
    picked = fitting[int(rng.integers(len(fitting)))]
    rows = rng.choice(len(picked.views), mix.images, replace=False).tolist()
    return [picked.views[r] for r in rows], picked.features[rows].float()


def _turned(x: torch.Tensor, turns: int, flip: bool) -> torch.Tensor:
    x = torch.rot90(x, turns, dims=(-2, -1))
    return x.flip(-1) if flip else x


def _turned_ids(ids: NDArray[np.int32], turns: int, flip: bool) -> NDArray[np.int32]:
    turned = np.rot90(ids, turns)
    return turned[:, ::-1] if flip else turned


def _validation(
    sam: Any, recipe: Recipe, images: Sequence[LabeledImage], embed: Embed | None
) -> Callable[[], dict[str, float]]:
    def validate() -> dict[str, float]:
        figures = {}
        for resolution in recipe.validate_at:
            for prompt in ("box", "point"):
                scores = evaluate_images(
                    sam,
                    images,
                    resolution=resolution,
                    prompt=prompt,
                    embed=embed,
                    max_instances=12,
                )
                key = f"val_iou_{prompt}_{resolution}"
                figures[key] = round(float(np.mean([s.mean() for s in scores])), 4)
        return figures

    return validate
