"""A training run: which stages are done, and what each hands to the next."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hwnas.data.folder import LabeledImage
from hwnas.supernet.checkpoint import load_weights, read_tensors, save_weights
from hwnas.supernet.convert import convert_encoder, fold_final_norm, load_converted, read_dinov2
from hwnas.supernet.sam_model import build_sam
from hwnas.supernet.training.dense import DenseHead
from hwnas.supernet.training.features import CachedViews, cache_views, global_tokens
from hwnas.supernet.training.loop import Stage, run_stage
from hwnas.supernet.training.prime import prime_prompting
from hwnas.supernet.training.recipe import Recipe
from hwnas.supernet.training.selection import select_weights
from hwnas.supernet.training.stages import distill_stage, end_to_end_stage, head_stage
from hwnas.workload.sam_geometry import GEOMETRIES

__all__ = ["Head", "TrainingRun", "train_head", "train_small", "write_json"]

_LOG = logging.getLogger(__name__)


class TrainingRun:
    """Which stages of a run folder are done, and what they left."""

    def __init__(
        self, out: Path, state: dict[str, Any], seed: int, minutes: float | None, name: str
    ) -> None:
        self.out, self.state, self.seed = out, state, seed
        self._minutes, self._name = minutes, name

    def train(self, stage: Stage) -> None:
        """Run a stage that is not done yet and record it, weights first."""
        if stage.name in self.state["stages"]:
            return
        share = stage.recipe.share if self._name == "sam-vit-t" else 1.0
        limit = None if self._minutes is None else self._minutes * share
        _LOG.info("stage %s: up to %d steps", stage.name, stage.recipe.steps)
        figures = run_stage(stage, self.out, seed=self.seed, minutes=limit)
        keep = {k: v.contiguous() for k, v in stage.module.state_dict().items()}
        save_weights(self.out / f"stage-{stage.name}.safetensors", keep)
        self.state["stages"][stage.name] = figures
        write_json(self.out / "state.json", self.state)

    def load(self, stage: str, module: torch.nn.Module) -> None:
        """Load what a stage that is done has left."""
        path = self.out / f"stage-{stage}.safetensors"
        load_weights(module, read_tensors(path), source=str(path))


class Head:
    """sam-vit-s during training: its neck reads normalized features."""

    def __init__(self, sam: Any, gain: torch.Tensor, cached: list[CachedViews]) -> None:
        self.sam, self.gain, self.cached = sam, gain, cached

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Embed normalized images (B, 3, R, R) as (B, 256, R/16, R/16)."""
        tokens = global_tokens(self.sam, images)
        normed = torch.nn.functional.layer_norm(tokens, tokens.shape[-1:], self.gain, None, 1e-6)
        embedding: torch.Tensor = self.sam.image_encoder.neck(normed.permute(0, 3, 1, 2))
        return embedding


def train_head(
    run: TrainingRun,
    images: Sequence[LabeledImage],
    validation: Sequence[LabeledImage],
    base: str | Path,
    recipe: Recipe,
) -> Head:
    """Stage s: the frozen converted backbone with a trained head; writes sam_vit_s.safetensors."""
    geometry = GEOMETRIES["sam-vit-s"]
    weights = read_dinov2(base)
    torch.manual_seed(run.seed)
    sam = build_sam(geometry)
    load_converted(sam, convert_encoder(weights, geometry), source=str(base))
    prime_prompting(
        sam,
        position_scale=recipe.position_scale,
        sharpness=recipe.sharpness,
        kind_scale=recipe.kind_scale,
    )
    gain = weights["norm.weight"]
    cached = [
        cache_views(
            sam,
            gain,
            images[:: part.every],
            run.out / "cache",
            resolution=part.resolution,
            number=number,
            crop=part.crop,
            seed=run.seed,
        )
        for part in recipe.cached_views
        for number in range(part.count)
    ]
    head = Head(sam, gain, cached)
    run.train(head_stage(sam, cached, recipe, validation, head.embed))
    run.load("s", sam)
    _save_folded(run.out / "sam_vit_s.safetensors", sam, gain)
    return head


def _save_folded(path: Path, sam: Any, gain: torch.Tensor) -> None:
    tensors = {k: v.clone() for k, v in sam.state_dict().items()}
    first = "image_encoder.neck.0.weight"
    tensors[first] = fold_final_norm(tensors[first], gain)
    save_weights(path, tensors, metadata={"geometry": "sam-vit-s"})


def train_small(
    run: TrainingRun,
    images: Sequence[LabeledImage],
    validation: Sequence[LabeledImage],
    head: Head,
    recipe: Recipe,
) -> None:
    """Stages t1 and t2, starting from the weights of sam-vit-s; writes sam_vit_t.safetensors."""
    torch.manual_seed(run.seed + 1)
    sam = build_sam(GEOMETRIES["sam-vit-t"])
    sam.prompt_encoder.load_state_dict(head.sam.prompt_encoder.state_dict())
    sam.mask_decoder.load_state_dict(head.sam.mask_decoder.state_dict())
    teacher = head.sam
    select_weights(sam.image_encoder, teacher.image_encoder)
    neck = teacher.image_encoder.neck.requires_grad_(False)
    dense = DenseHead(GEOMETRIES["sam-vit-t"].neck_dim)
    both = torch.nn.ModuleDict({"sam": sam, "head": dense})
    run.train(distill_stage(sam, dense, neck, head.cached, recipe, validation))
    run.load("t1", both)
    head.cached.clear()
    run.train(end_to_end_stage(sam, dense, images, recipe, validation))
    run.load("t2", both)
    tensors = {k: v.clone() for k, v in sam.state_dict().items()}
    save_weights(run.out / "sam_vit_t.safetensors", tensors, metadata={"geometry": "sam-vit-t"})


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(value, indent=1), encoding="utf-8")
    os.replace(partial, path)
