"""Draw what a model makes of boxes and points, beside what was annotated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hwnas.data.folder import find_pairs, read_pair
from hwnas.data.overlay import outline, side_by_side
from hwnas.data.prompts import Prompts, prompts_of
from hwnas.errors import DataError
from hwnas.supernet.checkpoint import load_sam
from hwnas.supernet.evaluation import PROMPT_KINDS, segment

__all__ = ["draw_masks"]

_TRUTH, _FOUND = (60, 220, 60), (255, 90, 30)
_MAX_OBJECTS = 80


def draw_masks(
    name_or_path: str | Path,
    *,
    data: str | Path,
    names: Sequence[str],
    out: str | Path,
    resolution: int | None = None,
    side: int = 200,
) -> Path:
    """Write a PNG with a row for each named image: annotation, masks from boxes, from points.

    The first 80 objects of an image are prompted. Raises DataError for a name that is not there.
    """
    sam = load_sam(name_or_path)
    size = resolution or sam.geometry.image_size
    pairs = {p.name: p for p in find_pairs(data)}
    absent = [n for n in names if n not in pairs]
    if absent:
        raise DataError(f"{data} has no image {', '.join(absent)}; give names as in split.csv")
    rows = []
    for name in names:
        labeled = read_pair(pairs[name])
        everything = prompts_of(labeled.instances)
        rows_used = slice(0, _MAX_OBJECTS)
        prompts = Prompts(*(getattr(everything, f)[rows_used] for f in ("ids", "boxes", "points")))
        truth = labeled.instances[None] == prompts.ids[:, None, None]
        panels = [outline(labeled.image, truth, _TRUTH)]
        for kind in PROMPT_KINDS:
            masks = segment(sam, labeled.image, prompts, resolution=size, prompt=kind)
            panels.append(outline(labeled.image, masks, _FOUND))
        rows.append(panels)
    path = Path(out)
    side_by_side(rows, side=side).quantize(96).save(path, optimize=True)
    return path
