"""The stages: head of sam-vit-s, distillation of sam-vit-t, sam-vit-t as a whole, a decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hwnas.data.folder import LabeledImage
from hwnas.data.views import draw_view
from hwnas.supernet.evaluation import PROMPT_KINDS, Embed, evaluate_images
from hwnas.supernet.sam_model import encode
from hwnas.supernet.training.batches import images_of
from hwnas.supernet.training.losses import embedding_loss
from hwnas.supernet.training.precision import autocast, float32
from hwnas.supernet.training.pretraining.decoding import (
    cached_rows,
    decoder_loss,
    prompt_losses,
)
from hwnas.supernet.training.pretraining.dense import DenseHead, dense_loss, dense_targets
from hwnas.supernet.training.pretraining.drawing import Draw
from hwnas.supernet.training.pretraining.features import CachedViews
from hwnas.supernet.training.pretraining.recipe import Recipe, StageRecipe
from hwnas.supernet.training.stage import Figures, ParameterGroup, Share, Stage

__all__ = ["decoder_stage", "distill_stage", "end_to_end_stage", "head_stage"]

_Loss = Callable[[Draw], Mapping[str, torch.Tensor]]


def head_stage(
    sam: Any,
    cached: Sequence[CachedViews],
    recipe: Recipe,
    validation: Sequence[LabeledImage],
    embed: Embed,
    minutes: float | None = None,
) -> Stage:
    """Train neck, prompt encoder and mask decoder on cached features of the frozen encoder."""
    sam.requires_grad_(False)
    sam.image_encoder.neck.requires_grad_(True)
    sam.prompt_encoder.requires_grad_(True)
    sam.mask_decoder.requires_grad_(True)
    device = _device(sam)

    def loss(draw: Draw) -> Mapping[str, torch.Tensor]:
        views, features = cached_rows(cached, draw)
        batch = draw.batch(views, recipe).to(device)
        embedding = sam.image_encoder.neck(features.to(device).permute(0, 3, 1, 2))
        return prompt_losses(sam, embedding, batch)

    validate = _validation(sam, recipe, validation, embed)
    return _stage("s", 1, sam, recipe.s, loss, validate, minutes)


def distill_stage(
    sam: Any,
    head: DenseHead,
    teacher_neck: Any,
    cached: Sequence[CachedViews],
    recipe: Recipe,
    validation: Sequence[LabeledImage],
    minutes: float | None = None,
) -> Stage:
    """Train the encoder of `sam` on the teacher's neck output and the dense task (cached views).

    Images and teacher maps are turned and flipped together, eight ways; the teacher is not run
    again for these (it is nearly, not exactly, equivariant).
    """
    sam.requires_grad_(False)
    sam.image_encoder.requires_grad_(True)
    device = _device(sam)

    def loss(draw: Draw) -> Mapping[str, torch.Tensor]:
        views, features = cached_rows(cached, draw)
        with torch.no_grad():
            target = teacher_neck(features.to(device).permute(0, 3, 1, 2))
        turns, flip = int(draw.rng.integers(4)), bool(draw.rng.integers(2))
        image, target = (_turned(x, turns, flip) for x in (images_of(views).to(device), target))
        ids = [_turned_ids(v.instances, turns, flip) for v in views]
        embedding = encode(sam, image)
        with float32(device):
            distil = embedding_loss(embedding.float(), target.float())
            dense = dense_loss(head(embedding.float()), dense_targets(ids).to(device))
        return {"loss": distil + recipe.dense * dense, "distil": distil, "dense": dense}

    module = torch.nn.ModuleDict({"sam": sam, "head": head})
    validate = _validation(sam, recipe, validation, None)
    return _stage("t1", 2, module, recipe.t1, loss, validate, minutes)


def end_to_end_stage(
    sam: Any,
    head: DenseHead,
    images: Sequence[LabeledImage],
    recipe: Recipe,
    validation: Sequence[LabeledImage],
    minutes: float | None = None,
    *,
    number: int = 3,
) -> Stage:
    """Train all of `sam` on freshly drawn views with box and point prompts and the dense task.

    Another `number` draws other batches, for a model that has seen those of number 3.
    """
    sam.requires_grad_(True)
    device = _device(sam)

    def loss(draw: Draw) -> Mapping[str, torch.Tensor]:
        resolution = draw.mix.resolution
        crop = 0.6 if resolution <= 256 else 0.35
        views = [
            draw_view(
                images[index],
                resolution,
                row,
                crop=crop,
                recolor=bool(row.random() < recipe.recolored),
            )
            for index, row in zip(draw.pick(len(images)), draw.rows, strict=True)
        ]
        batch = draw.batch(views, recipe).to(device)
        embedding = encode(sam, batch.images)
        losses = prompt_losses(sam, embedding, batch)
        with float32(device):
            targets = dense_targets([v.instances for v in views]).to(device)
            dense = dense_loss(head(embedding.float()), targets)
        return {**losses, "loss": losses["loss"] + recipe.dense * dense, "dense": dense}

    module = torch.nn.ModuleDict({"sam": sam, "head": head})
    validate = _validation(sam, recipe, validation, None)
    return _stage("t2", number, module, recipe.t2, loss, validate, minutes)


def decoder_stage(
    sam: Any,
    cached: Sequence[CachedViews],
    recipe: Recipe,
    validation: Sequence[LabeledImage],
    embed: Embed | None = None,
    minutes: float | None = None,
) -> Stage:
    """Train prompt encoder and mask decoder on cached embeddings of the frozen encoder."""
    loss = decoder_loss(sam, cached, recipe)
    return _stage("d", 5, sam, recipe.d, loss, _validation(sam, recipe, validation, embed), minutes)


def _stage(
    name: str,
    number: int,
    module: torch.nn.Module,
    recipe: StageRecipe,
    loss: _Loss,
    validate: Callable[[], Mapping[str, float]],
    minutes: float | None,
) -> Stage:
    device = _device(module)

    def accumulate(rng: np.random.Generator, share: Share) -> Figures:
        draw = Draw(recipe, rng, share)
        with autocast(device, draw.mix.precision):
            losses = loss(draw)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        return {f"{k}@{draw.mix.resolution}": v.detach() for k, v in losses.items()}

    parameters = [(k, p) for k, p in module.named_parameters() if p.requires_grad]
    group = ParameterGroup("all", parameters, recipe.rate, recipe.weight_decay)
    return Stage(
        name,
        number,
        module,
        [group],
        recipe.steps,
        accumulate,
        validate,
        warmup=recipe.warmup,
        ema=recipe.ema,
        clip=recipe.clip,
        minutes=minutes,
    )


def _turned(x: torch.Tensor, turns: int, flip: bool) -> torch.Tensor:
    x = torch.rot90(x, turns, dims=(-2, -1))
    return x.flip(-1) if flip else x


def _turned_ids(ids: NDArray[np.int32], turns: int, flip: bool) -> NDArray[np.int32]:
    turned = np.rot90(ids, turns)
    return turned[:, ::-1] if flip else turned


def _device(module: torch.nn.Module) -> torch.device:
    return next(module.parameters()).device


def _validation(
    sam: Any, recipe: Recipe, images: Sequence[LabeledImage], embed: Embed | None
) -> Callable[[], dict[str, float]]:
    def validate() -> dict[str, float]:
        figures = {}
        for resolution in recipe.validate_at:
            for prompt in PROMPT_KINDS:
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
