"""Rebuild `sam-vit-s` from a DINOv2-layout backbone and the shipped head."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hwnas.data.folder import find_pairs, read_pairs
from hwnas.data.transforms import preprocess
from hwnas.errors import CheckpointError, ConfigError
from hwnas.supernet.checkpoint import asset_path, load_weights, read_tensors, save_weights
from hwnas.supernet.convert import agreement, convert_encoder, load_converted, read_dinov2
from hwnas.supernet.sam_model import build_sam
from hwnas.workload.sam_geometry import GEOMETRIES

__all__ = ["Agreement", "Converted", "convert_model"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Cosine of converted and original patch features: mean and percentiles over all patches."""

    images: int
    patches: int
    mean: float
    p1: float
    p5: float
    median: float


@dataclass(frozen=True, slots=True)
class Converted:
    """What a conversion wrote, and how well it agrees with the original (None: not measured)."""

    path: Path
    agreement: Agreement | None


def convert_model(
    name: str = "sam-vit-s",
    *,
    base: str | Path,
    out: str | Path,
    head: str | Path | None = None,
    data: str | Path | None = None,
    split: str | None = "val",
    max_images: int = 20,
) -> Converted:
    """Convert the backbone `base` and write a whole model to `out` (.safetensors).

    `head` holds neck, prompt encoder and mask decoder; the shipped one for `sam-vit-s` if not
    given. With `data`, the agreement of the patch features is measured on its first `max_images`
    images of `split`.
    """
    if name not in GEOMETRIES:
        raise ConfigError(f"{name}: no such model; expected one of {', '.join(GEOMETRIES)}")
    if Path(out).suffix != ".safetensors":
        raise ConfigError(f"{out}: expected a name that ends in .safetensors")
    geometry = GEOMETRIES[name]
    weights = read_dinov2(base)
    sam = build_sam(geometry)
    load_converted(sam, convert_encoder(weights, geometry), source=str(base))
    _load_head(sam, Path(head) if head is not None else asset_path(f"{name}-head"))
    measured = None
    if data is not None:
        measured = _agreement(weights, sam, data, split, max_images)
    path = save_weights(out, sam.state_dict(), metadata={"geometry": name})
    return Converted(path, measured)


def _load_head(sam: Any, path: Path) -> None:
    head = read_tensors(path)
    own = sam.state_dict()
    encoder = {
        k: v
        for k, v in own.items()
        if k.startswith("image_encoder.") and not k.startswith("image_encoder.neck.")
    }
    doubled = sorted(encoder.keys() & head.keys())
    if doubled:
        raise CheckpointError(
            f"{path} holds encoder weights ({doubled[0]}, ...); expected a head only: "
            "neck, prompt encoder and mask decoder"
        )
    load_weights(sam, {**encoder, **head}, source=str(path))


def _agreement(
    weights: dict[str, torch.Tensor], sam: Any, data: str | Path, split: str | None, limit: int
) -> Agreement:
    has_split = (Path(data) / "split.csv").is_file()
    images = read_pairs(find_pairs(data, split=split if has_split else None)[:limit])
    size = sam.geometry.image_size
    cosines = agreement(weights, sam, [preprocess(i.image, size) for i in images])
    p1, p5, median = torch.quantile(cosines, torch.tensor([0.01, 0.05, 0.5])).tolist()
    return Agreement(len(images), len(cosines), float(cosines.mean()), p1, p5, median)
