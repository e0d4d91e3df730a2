"""Rebuild `sam-vit-s` from a DINOv2-layout backbone and the shipped head."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.data.folder import find_pairs, read_pairs
from hwnas.data.transforms import preprocess
from hwnas.errors import ConfigError
from hwnas.records.tensor_files import check_tensor_name
from hwnas.supernet.agreement import Agreement, measure_agreement
from hwnas.supernet.checkpoint import asset_path, save_weights
from hwnas.supernet.convert import convert_encoder, load_converted, load_head, read_dinov2
from hwnas.supernet.sam_model import build_sam
from hwnas.workload.sam_geometry import GEOMETRIES

__all__ = ["Agreement", "Converted", "convert_model"]


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
    """Convert the backbone `base` and write a whole model to `out` (.safetensors[.gz]).

    `head` holds neck, prompt encoder and mask decoder; the shipped one for `sam-vit-s` if not
    given. The backbone is rounded to float16 first (`read_dinov2`), so that what is published in
    float32 and in float16 gives one model, with one hash. With `data`, the agreement of the patch
    features is measured on its first `max_images` images of `split`.
    """
    if name not in GEOMETRIES:
        raise ConfigError(f"{name}: no such model; expected one of {', '.join(GEOMETRIES)}")
    check_tensor_name(out)
    geometry = GEOMETRIES[name]
    weights = read_dinov2(base)
    sam = build_sam(geometry)
    load_converted(sam, convert_encoder(weights, geometry), source=str(base))
    load_head(sam, Path(head) if head is not None else asset_path(f"{name}-head"))
    measured = None
    if data is not None:
        measured = _agreement(weights, sam, data, split, max_images)
    path = save_weights(out, sam.state_dict(), metadata={"geometry": name})
    return Converted(path, measured)


def _agreement(
    weights: dict[str, Any], sam: Any, data: str | Path, split: str | None, limit: int
) -> Agreement:
    has_split = (Path(data) / "split.csv").is_file()
    images = read_pairs(find_pairs(data, split=split if has_split else None)[:limit])
    size = sam.geometry.image_size
    return measure_agreement(weights, sam, [preprocess(i.image, size) for i in images])
