"""A training run of a base model: which stages it has, and what each hands to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hwnas.data.folder import LabeledImage
from hwnas.supernet.checkpoint import load_weights, read_tensors, save_weights
from hwnas.supernet.convert import convert_encoder, fold_final_norm, load_converted, read_dinov2
from hwnas.supernet.sam_model import build_sam, encode
from hwnas.supernet.training.curves import Tracker
from hwnas.supernet.training.distributed import World
from hwnas.supernet.training.loop import Progress, run_stage
from hwnas.supernet.training.pretraining.dense import DenseHead
from hwnas.supernet.training.pretraining.features import (
    CachedViews,
    cache_views,
    fused_embedding,
    global_tokens,
)
from hwnas.supernet.training.pretraining.prime import prime_prompting
from hwnas.supernet.training.pretraining.recipe import CachedSet, Recipe, StageRecipe
from hwnas.supernet.training.pretraining.selection import select_weights
from hwnas.supernet.training.pretraining.stages import (
    decoder_stage,
    distill_stage,
    end_to_end_stage,
    head_stage,
)
from hwnas.supernet.training.stage import Stage
from hwnas.workload.sam_geometry import GEOMETRIES

__all__ = ["Head", "TrainingRun", "restart", "train_head", "train_small"]

_RESTARTED = 4  # number of a t2 that goes on: it draws other batches than the first one


@dataclass(slots=True)
class TrainingRun:
    """Where a run of the stages `stages` writes, and what came of those that are done.

    `minutes` bounds all of them together; each has its recipe's share.
    """

    out: Path
    recipe: Recipe
    seed: int
    stages: tuple[str, ...]
    minutes: float | None = None
    world: World = field(default_factory=World)
    trackers: Sequence[Tracker] = ()
    progress: Callable[[Progress], None] | None = None
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)

    def limit(self, name: str) -> float | None:
        """The minutes of a stage."""
        if self.minutes is None:
            return None
        recipes: dict[str, StageRecipe] = {k: getattr(self.recipe, k) for k in self.stages}
        return self.minutes * recipes[name].share / sum(r.share for r in recipes.values())

    def train(self, stage: Stage) -> None:
        """Run a stage, or take over what it left."""
        self.figures[stage.name] = run_stage(
            stage,
            self.out,
            seed=self.seed,
            world=self.world,
            trackers=self.trackers,
            progress=self.progress,
        )

    def write(self, name: str, tensors: dict[str, torch.Tensor]) -> None:
        """Write the weights of a model that is done."""
        if self.world.leads:
            path = self.out / f"{name.replace('-', '_')}.safetensors"
            save_weights(path, tensors, metadata={"geometry": name})


class Head:
    """sam-vit-s during training: its neck reads normalized features."""

    def __init__(self, sam: Any, gain: torch.Tensor) -> None:
        self.sam, self.gain = sam, gain
        self.cached: list[CachedViews] = []

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The last block's tokens (B, g, g, C) after a LayerNorm with `gain` and without bias.

        It is what `fold_final_norm` later puts into the neck.
        """
        tokens = global_tokens(self.sam, images)
        return torch.nn.functional.layer_norm(tokens, tokens.shape[-1:], self.gain, None, 1e-6)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Embed normalized images (B, 3, R, R) as (B, 256, R/16, R/16)."""
        normed = self.features(images).permute(0, 3, 1, 2)
        embedding: torch.Tensor = self.sam.image_encoder.neck(normed)
        return embedding


def train_head(
    run: TrainingRun,
    images: Sequence[LabeledImage],
    validation: Sequence[LabeledImage],
    base: str | Path,
) -> Head:
    """Stage s: the frozen converted backbone with a trained head; writes sam_vit_s.safetensors."""
    geometry, recipe = GEOMETRIES["sam-vit-s"], run.recipe
    weights = read_dinov2(base)
    torch.manual_seed(run.seed)
    sam = build_sam(geometry)
    load_converted(sam, convert_encoder(weights, geometry), source=str(base))
    _prime(sam, recipe)
    sam.to(run.world.device)
    head = Head(sam, weights["norm.weight"].to(run.world.device))
    head.cached += _cached(run, head.features, images, recipe.cached_views, "features")
    run.train(head_stage(sam, head.cached, recipe, validation, head.embed, run.limit("s")))
    tensors = {k: v.clone() for k, v in sam.state_dict().items()}
    first = "image_encoder.neck.0.weight"
    tensors[first] = fold_final_norm(tensors[first], head.gain)
    run.write("sam-vit-s", tensors)
    return head


def train_small(
    run: TrainingRun,
    images: Sequence[LabeledImage],
    validation: Sequence[LabeledImage],
    head: Head,
) -> None:
    """Stages t1 and t2, starting from the weights of sam-vit-s; writes sam_vit_t.safetensors."""
    recipe = run.recipe
    torch.manual_seed(run.seed + 1)
    sam, dense = _small()
    sam.prompt_encoder.load_state_dict(head.sam.prompt_encoder.state_dict())
    sam.mask_decoder.load_state_dict(head.sam.mask_decoder.state_dict())
    select_weights(sam.image_encoder, head.sam.image_encoder.to("cpu"))
    neck = head.sam.image_encoder.neck.to(run.world.device).requires_grad_(False)
    _to(run, sam, dense)
    limit = run.limit("t1")
    run.train(distill_stage(sam, dense, neck, head.cached, recipe, validation, limit))
    head.cached.clear()
    if "t2" in run.stages:
        run.train(end_to_end_stage(sam, dense, images, recipe, validation, run.limit("t2")))
        run.write("sam-vit-t", dict(sam.state_dict()))


def restart(
    run: TrainingRun,
    name: str,
    images: Sequence[LabeledImage],
    validation: Sequence[LabeledImage],
    start: Path,
) -> None:
    """Stages d and t2, or one of them, from the weights in `start`; writes the model `name`.

    `start` holds a model of that name or, for t2, what a stage t1 or t2 left
    (`stages/t2.safetensors`): then the head of the auxiliary task goes on as well, else it is
    fresh.
    """
    torch.manual_seed(run.seed + 1)
    sam, dense = build_sam(GEOMETRIES[name]), DenseHead(GEOMETRIES[name].neck_dim)
    weights = read_tensors(start)
    if any(key.startswith("head.") for key in weights):
        load_weights(_both(sam, dense), weights, source=str(start))
    else:
        load_weights(sam, weights, source=str(start))
    _to(run, sam, dense)
    if "d" in run.stages:
        _train_decoder(run, sam, images, validation)
    if "t2" in run.stages:
        limit = run.limit("t2")
        run.train(
            end_to_end_stage(sam, dense, images, run.recipe, validation, limit, number=_RESTARTED)
        )
    run.write(name, dict(sam.state_dict()))


def _train_decoder(
    run: TrainingRun,
    sam: Any,
    images: Sequence[LabeledImage],
    validation: Sequence[LabeledImage],
) -> None:
    recipe = run.recipe
    fused = fused_embedding(sam)
    embed = fused or partial(encode, sam)

    @torch.no_grad()
    def features(images: torch.Tensor) -> torch.Tensor:
        return embed(images).permute(0, 2, 3, 1)

    cached = _cached(run, features, images, recipe.decoded_views, "embeddings")
    run.train(decoder_stage(sam, cached, recipe, validation, fused, run.limit("d")))


def _prime(sam: Any, recipe: Recipe) -> None:
    prime_prompting(
        sam,
        position_scales=recipe.position_scales,
        sharpness=recipe.sharpness,
        kind_scale=recipe.kind_scale,
    )


def _cached(
    run: TrainingRun,
    embed: Callable[[torch.Tensor], torch.Tensor],
    images: Sequence[LabeledImage],
    parts: Sequence[CachedSet],
    what: str,
) -> list[CachedViews]:
    device = run.world.device
    return [
        cache_views(
            lambda x: embed(x.to(device)),
            images,
            run.out / "cache" / f"{what}-{part.resolution}-{number}.safetensors",
            part,
            number=number,
            seed=run.seed,
            keep=run.world.leads,
        )
        for part in parts
        for number in range(part.count)
    ]


def _small() -> tuple[Any, DenseHead]:
    geometry = GEOMETRIES["sam-vit-t"]
    return build_sam(geometry), DenseHead(geometry.neck_dim)


def _both(sam: Any, dense: DenseHead) -> torch.nn.ModuleDict:
    return torch.nn.ModuleDict({"sam": sam, "head": dense})


def _to(run: TrainingRun, *modules: torch.nn.Module) -> None:
    for module in modules:
        module.to(run.world.device)
