"""Train the shipped models from a DINOv2-layout backbone and a folder of annotated images."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from hwnas.data.embedded import EXCLUDED_FROM_TRAINING
from hwnas.data.folder import LabeledImage, find_pairs, read_pairs
from hwnas.errors import ConfigError, RunError
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

__all__ = ["train_model"]

_LOG = logging.getLogger(__name__)


def train_model(
    name: str,
    *,
    data: str | Path,
    base: str | Path,
    out: str | Path,
    seed: int = 0,
    resume: bool = False,
    minutes: float | None = None,
    recipe: Recipe | None = None,
) -> dict[str, Any]:
    """Train `sam-vit-s` (stage s) or `sam-vit-t` (stages s, t1, t2); returns the stages' figures.

    `data` is a folder as in `hwnas.data.folder` whose split.csv has train and val; `base` the
    backbone. `out` receives the weights, `state.json`, `log.jsonl` (a line a minute), features
    and checkpoints. `minutes` bounds the training of all stages together, embedding of the views
    not counted. Images that show the shipped picture are left out. With `resume` an interrupted
    `out` is continued, else an existing one is refused.
    """
    if name not in ("sam-vit-s", "sam-vit-t"):
        raise ConfigError(f"{name}: no training recipe; expected sam-vit-s or sam-vit-t")
    recipe = recipe or Recipe()
    out = Path(out)
    state = _open(out, _request(name, data, base, seed, minutes, recipe), resume)
    images = _read(data, "train")
    validation = _read(data, "val")[:: recipe.validate_every]
    run = _Run(out, state, seed, minutes, name)
    small = _train_head(run, images, validation, base, recipe)
    if name == "sam-vit-t":
        _train_small(run, images, validation, small, recipe)
    return dict(state["stages"])


class _Run:
    """Which stages of a run folder are done, and what they left."""

    def __init__(
        self, out: Path, state: dict[str, Any], seed: int, minutes: float | None, name: str
    ) -> None:
        self.out, self.state, self.seed = out, state, seed
        self._minutes, self._name = minutes, name

    def train(self, stage: Stage) -> None:
        if stage.name in self.state["stages"]:
            return
        share = stage.recipe.share if self._name == "sam-vit-t" else 1.0
        limit = None if self._minutes is None else self._minutes * share
        _LOG.info("stage %s: up to %d steps", stage.name, stage.recipe.steps)
        figures = run_stage(stage, self.out, seed=self.seed, minutes=limit)
        keep = {k: v.contiguous() for k, v in stage.module.state_dict().items()}
        save_weights(self.out / f"stage-{stage.name}.safetensors", keep)
        self.state["stages"][stage.name] = figures
        _write_json(self.out / "state.json", self.state)

    def load(self, stage: str, module: torch.nn.Module) -> None:
        path = self.out / f"stage-{stage}.safetensors"
        load_weights(module, read_tensors(path), source=str(path))


class _Head:
    """sam-vit-s during training: its neck reads normalized features."""

    def __init__(self, sam: Any, gain: torch.Tensor, cached: list[CachedViews]) -> None:
        self.sam, self.gain, self.cached = sam, gain, cached

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        tokens = global_tokens(self.sam, images)
        normed = torch.nn.functional.layer_norm(tokens, tokens.shape[-1:], self.gain, None, 1e-6)
        embedding: torch.Tensor = self.sam.image_encoder.neck(normed.permute(0, 3, 1, 2))
        return embedding


def _train_head(
    run: _Run,
    images: Sequence[LabeledImage],
    validation: Sequence[LabeledImage],
    base: str | Path,
    recipe: Recipe,
) -> _Head:
    geometry = GEOMETRIES["sam-vit-s"]
    weights = read_dinov2(base)
    torch.manual_seed(run.seed)
    sam = build_sam(geometry)
    load_converted(sam, convert_encoder(weights, geometry), source=str(base))
    prime_prompting(
        sam, position_scale=recipe.position_scale, sharpness=recipe.sharpness,
        kind_scale=recipe.kind_scale,
    )
    gain = weights["norm.weight"]
    cached = [
        cache_views(
            sam, gain, images[:: part.every], run.out / "cache",
            resolution=part.resolution, number=number, crop=part.crop, seed=run.seed,
        )
        for part in recipe.cached_views
        for number in range(part.count)
    ]
    head = _Head(sam, gain, cached)
    run.train(head_stage(sam, cached, recipe, validation, head.embed))
    run.load("s", sam)
    _save_folded(run.out / "sam_vit_s.safetensors", sam, gain)
    return head


def _save_folded(path: Path, sam: Any, gain: torch.Tensor) -> None:
    tensors = {k: v.clone() for k, v in sam.state_dict().items()}
    first = "image_encoder.neck.0.weight"
    tensors[first] = fold_final_norm(tensors[first], gain)
    save_weights(path, tensors, metadata={"geometry": "sam-vit-s"})


def _train_small(
    run: _Run,
    images: Sequence[LabeledImage],
    validation: Sequence[LabeledImage],
    head: _Head,
    recipe: Recipe,
) -> None:
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


def _read(data: str | Path, split: str) -> list[LabeledImage]:
    pairs = find_pairs(data, split=split)
    kept = [p for p in pairs if p.name not in EXCLUDED_FROM_TRAINING]
    for pair in pairs:
        if pair not in kept:
            _LOG.info("%s: left out, it shows the picture that ships with the package", pair.name)
    return read_pairs(kept)


def _request(
    name: str,
    data: str | Path,
    base: str | Path,
    seed: int,
    minutes: float | None,
    recipe: Recipe,
) -> dict[str, Any]:
    request = {
        "name": name, "data": str(data), "base": str(base), "seed": seed, "minutes": minutes,
        "recipe": asdict(recipe),
    }
    return dict(json.loads(json.dumps(request)))


def _open(out: Path, request: dict[str, Any], resume: bool) -> dict[str, Any]:
    path = out / "state.json"
    if not path.is_file():
        out.mkdir(parents=True, exist_ok=True)
        state = {"request": request, "stages": {}}
        _write_json(path, state)
        return state
    if not resume:
        raise RunError(f"{out} holds a training run already; add --resume or name another folder")
    state = json.loads(path.read_text(encoding="utf-8"))
    changed = [k for k, v in request.items() if state["request"].get(k) != v]
    if changed:
        raise RunError(
            f"{out} was started with other values of {', '.join(changed)} (see {path}); "
            "repeat the command that started it, or name another folder"
        )
    return dict(state)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(value, indent=1), encoding="utf-8")
    os.replace(partial, path)
