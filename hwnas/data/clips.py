"""Short clips for models of video: a window that moves over one real image.

No video: the scene stands still, only the window moves, by whole pixels, so every frame is a part
of the picture as it was taken and its masks are the annotation's. Objects enter and leave at the
edges; none moves by itself, deforms or hides another.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwnas.data.labeled import LabeledImage
from hwnas.errors import DataError

__all__ = ["clips_of"]

Clip = tuple[LabeledImage, ...]
_TRIES = 20


def clips_of(
    image: LabeledImage,
    frames: int,
    rng: np.random.Generator,
    *,
    count: int = 1,
    side: float = 0.6,
    travel: float = 0.25,
) -> list[Clip]:
    """Draw `count` clips of `frames` frames: square windows on their way over an image.

    A window has the share `side` of the short side. It starts anywhere, moves by at most the share
    `travel` of its own side over the clip, in a direction that is drawn, slowing down or speeding
    up evenly, and stops at the image's edge. Ids of objects are those of the image, in every frame
    the same. An image with objects gives frames that all hold a part of one.

    Raises:
        DataError: no frames, or a share that is none.
    """
    if frames < 1 or count < 0 or not 0 < side <= 1 or travel < 0:
        raise DataError(
            f"clips of {frames} frames, side {side}, travel {travel}; expected a frame or more, a "
            "side above 0 and up to 1, and a travel of 0 or more"
        )
    length = max(1, round(side * min(image.size)))
    return [_clip(image, _path(image, frames, length, travel, rng), length) for _ in range(count)]


def _path(
    image: LabeledImage, frames: int, length: int, travel: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Top left corners (frames, 2), each window with a part of an object if there are any."""
    room = np.array(image.size) - length
    marked = image.instances > 0
    for _ in range(_TRIES):
        start, angle = rng.uniform(0, room + 1), rng.uniform(0, 2 * np.pi)
        way = travel * length * rng.random() * np.array([np.sin(angle), np.cos(angle)])
        bend = rng.uniform(-0.5, 0.5)  # of the speed, from the first frame to the last
        t = np.linspace(0, 1, frames)[:, None]
        corners = np.clip(np.floor(start + way * (t + bend * t * (1 - t))), 0, room).astype(int)
        if all(marked[_inner(y, length), _inner(x, length)].any() for y, x in corners):
            return corners
    if not marked.any():
        return corners
    ys, xs = np.nonzero(marked)  # too few objects to be met by chance: stand still on one
    pick = int(rng.integers(len(ys)))
    corner = np.clip(np.array([ys[pick], xs[pick]]) - length // 2, 0, room)
    return np.repeat(corner[None], frames, axis=0)


def _inner(start: int, length: int) -> slice:
    """A window's pixels without its edge, where an object may be a sliver that resizing loses."""
    edge = length // 16
    return slice(start + edge, start + length - edge)


def _clip(image: LabeledImage, corners: NDArray[np.int64], length: int) -> Clip:
    frames = []
    for number, (y, x) in enumerate(corners):
        part = slice(y, y + length), slice(x, x + length)
        frames.append(
            LabeledImage(
                f"{image.name}@{number}",
                np.ascontiguousarray(image.image[part]),
                np.ascontiguousarray(image.instances[part]),
                image.kind,
                None if image.labels is None else np.ascontiguousarray(image.labels[part]),
                image.classes,
            )
        )
    return tuple(frames)
