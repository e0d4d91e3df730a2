"""The objects of one image that are prompted, with all that scoring needs, prepared once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.data.labeled import LabeledImage
from hwnas.data.prompts import Prompts, prompts_of
from hwnas.data.scores import border_band, border_width
from hwnas.errors import DataError

__all__ = ["Truth", "Truths", "prepare_truths", "score_window"]

Window = tuple[slice, slice]


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """One object inside its tight `window` of the image: its mask, pixels, and border band."""

    window: Window
    mask: NDArray[np.bool_]
    pixels: int
    band: NDArray[np.bool_] | None
    band_pixels: int


@dataclass(frozen=True, slots=True, eq=False)
class Truths:
    """The prompted objects of one image of height and width `size`, as prompts and as masks.

    `ignored` (H, W) are pixels that do not count, None where all do; `band` is the width of the
    border band in pixels.
    """

    size: tuple[int, int]
    prompts: Prompts
    objects: tuple[Truth, ...]
    ignored: NDArray[np.bool_] | None
    band: int


def prepare_truths(
    labeled: LabeledImage,
    *,
    max_instances: int | None = None,
    rng: np.random.Generator | None = None,
    boundary: bool = False,
) -> Truths:
    """Prompts and masks of an image's objects; at most `max_instances`, drawn by `rng`.

    `boundary` prepares the border bands too.

    Raises:
        DataError: objects must be drawn and there is no generator.
    """
    prompts = _capped(prompts_of(labeled.instances), max_instances, rng)
    band, ignored = border_width(*labeled.size), labeled.ignored
    objects = []
    for number, (x0, y0, x1, y1) in zip(prompts.ids, prompts.boxes.astype(int), strict=True):
        window = (slice(int(y0), int(y1)), slice(int(x0), int(x1)))
        mask = labeled.instances[window] == number
        if ignored is not None:
            mask &= ~ignored[window]
        edge = border_band(mask, band) if boundary else None
        objects.append(
            Truth(window, mask, int(mask.sum()), edge, 0 if edge is None else int(edge.sum()))
        )
    return Truths(labeled.size, prompts, tuple(objects), ignored, band)


def score_window(
    truths: Truths, truth: Truth, mask: NDArray[np.bool_], window: Window
) -> tuple[float, float | None]:
    """IoU and boundary IoU of a predicted mask that is given in `window` and empty elsewhere.

    Equal to comparing masks of the whole image: the union is the two areas less the
    intersection, and the intersection lies where the windows overlap.
    """
    edge = border_band(mask, truths.band) if truth.band is not None else None
    if truths.ignored is not None:
        counted = ~truths.ignored[window]
        mask = mask & counted
        edge = None if edge is None else edge & counted
    iou = _iou(mask, window, truth.mask, truth.window, truth.pixels)
    if edge is None or truth.band is None:
        return iou, None
    return iou, _iou(edge, window, truth.band, truth.window, truth.band_pixels)


def _iou(
    mask: NDArray[np.bool_], at: Window, truth: NDArray[np.bool_], there: Window, pixels: int
) -> float:
    top, left = (max(a.start, b.start) for a, b in zip(at, there, strict=True))
    bottom, right = (min(a.stop, b.stop) for a, b in zip(at, there, strict=True))
    both = 0
    if top < bottom and left < right:
        own = mask[
            top - at[0].start : bottom - at[0].start, left - at[1].start : right - at[1].start
        ]
        other = truth[top - there[0].start : bottom - there[0].start,
                      left - there[1].start : right - there[1].start]  # fmt: skip
        both = int(np.count_nonzero(own & other))
    either = int(np.count_nonzero(mask)) + pixels - both
    return both / either if either else 1.0


def _capped(prompts: Prompts, limit: int | None, rng: np.random.Generator | None) -> Prompts:
    if limit is None or len(prompts.ids) <= limit:
        return prompts
    if rng is None:
        raise DataError(f"{len(prompts.ids)} objects, limit {limit}: give a generator to draw them")
    rows = np.sort(rng.choice(len(prompts.ids), limit, replace=False))
    return Prompts(prompts.ids[rows], prompts.boxes[rows], prompts.points[rows])
