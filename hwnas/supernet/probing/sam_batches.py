"""Fixed batches for SAM supernets: the same pictures and prompts at every resolution.

Nothing is augmented. An image goes in whole and once; where the batches hold more pictures than
there are images, the others are crops of them, drawn once. Prompts are chosen on the picture
itself: half tight boxes, half center-most points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from hwnas.data.labeled import IGNORED, LabeledImage
from hwnas.data.prompts import Prompts, prompts_of
from hwnas.data.transforms import fit_size, preprocess, resize_ids
from hwnas.data.views import draw_view
from hwnas.errors import CostError
from hwnas.supernet.probing.probe import BatchSize
from hwnas.supernet.training.batches import Batch
from hwnas.supernet.training.elastic.semantic_task import ClassBatch

__all__ = ["Picture", "class_batch", "draw_pictures", "prompt_batch"]

_PROMPTS = 4  # of each picture
_MIN_PIXELS = 10  # smaller objects are prompted only where there are no others
_CELL = 4  # pixels of the input for each of a decoded map


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An image or a crop of one, and the objects that are prompted in it, in its own pixels."""

    image: LabeledImage
    prompts: Prompts


def draw_pictures(
    images: Sequence[LabeledImage], size: BatchSize, side: int, *, objects: bool
) -> list[Picture]:
    """As many pictures as the batches hold; crops are drawn at `side` pixels.

    With `objects`, images without any are left out.

    Raises:
        CostError: no image is left.
    """
    usable = [image for image in images if not objects or image.instances.any()]
    if not usable:
        raise CostError(
            f"none of {len(images)} images has an object to prompt; give annotated images (--data)"
        )
    rng = np.random.default_rng(size.seed)
    order = rng.permutation(len(usable))
    seeds = rng.integers(2**63, size=size.batches * size.images)
    pictures = []
    for place, seed in enumerate(seeds):
        own = np.random.default_rng(seed)
        image = usable[order[place % len(usable)]]
        if place >= len(usable):
            image = _crop(image, side, own)
        pictures.append(Picture(image, _choose(image.instances, own)))
    return pictures


def prompt_batch(pictures: Sequence[Picture], resolution: int) -> Batch:
    """Pictures with their prompts at an input of `resolution` pixels."""
    boxes, points, targets = [], [], []
    half = _PROMPTS // 2
    for picture in pictures:
        found = picture.prompts
        scale = resolution / max(picture.image.size)
        boxes.append(torch.from_numpy(found.boxes[:half]) * scale)
        points.append((torch.from_numpy(found.points[half:]) + 0.5) * scale - 0.5)
        ids = torch.from_numpy(_fitted(picture.image.instances, resolution, fill=0))
        masks = (ids == torch.from_numpy(found.ids)[:, None, None]).float()  # (P, R, R)
        targets.append((functional.avg_pool2d(masks[None], 2)[0] >= 0.5).float())
    return Batch(
        _inputs(pictures, resolution), torch.stack(boxes), torch.stack(points)[:, :, None],
        torch.stack(targets),
    )  # fmt: skip


def class_batch(pictures: Sequence[Picture], resolution: int) -> ClassBatch:
    """Pictures with the class of each cell of the decoder's map."""
    start = slice(_CELL // 2, None, _CELL)
    maps = [
        _fitted(picture.image.semantic.astype(np.int32), resolution, fill=IGNORED)[start, start]
        for picture in pictures
    ]
    return ClassBatch(
        _inputs(pictures, resolution), torch.from_numpy(np.stack(maps).astype(np.int64))
    )


def _inputs(pictures: Sequence[Picture], resolution: int) -> torch.Tensor:
    return torch.stack([preprocess(picture.image.image, resolution) for picture in pictures])


def _fitted(ids: NDArray[np.int32], resolution: int, *, fill: int) -> NDArray[np.int32]:
    """An id map (H, W) as (R, R), the long side resized to R, `fill` in the padding."""
    height, width = fit_size(ids.shape[0], ids.shape[1], resolution)
    fitted = np.full((resolution, resolution), fill, dtype=np.int32)
    fitted[:height, :width] = resize_ids(np.ascontiguousarray(ids), height, width)
    return fitted


def _crop(image: LabeledImage, side: int, rng: np.random.Generator) -> LabeledImage:
    """A crop of an image, turned and flipped; the image where no object survives in it."""
    view = draw_view(image, side, rng, crop=1.0, recolor=False)
    part = slice(0, view.height), slice(0, view.width)
    if image.instances.any() and not view.instances[part].any():
        return image
    labels = None if view.labels is None else view.labels[part]
    return LabeledImage(
        image.name, view.image[part], view.instances[part], image.kind, labels, image.classes
    )


def _choose(instances: NDArray[np.int32], rng: np.random.Generator) -> Prompts:
    """`_PROMPTS` objects, repeated where there are fewer; none where there is no object."""
    found = prompts_of(instances, min_pixels=_MIN_PIXELS)
    if not len(found.ids):
        found = prompts_of(instances)
    count = len(found.ids)
    rows = rng.choice(count, _PROMPTS, replace=count < _PROMPTS) if count else np.zeros(0, int)
    return Prompts(found.ids[rows], found.boxes[rows], found.points[rows])
