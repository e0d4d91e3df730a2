"""The picture of a deploy folder: what its networks make of the boxes of the embedded image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwnas.data.embedded import embedded_image
from hwnas.data.overlay import outline, side_by_side
from hwnas.data.prompts import prompts_of
from hwnas.records.files import explained

__all__ = ["draw_masks"]

_TRUTH, _FOUND = (60, 220, 60), (255, 90, 30)
_MOST, _SIDE = 40, 400  # objects, pixels

Segment = Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.bool_]]


def draw_masks(segment: Segment, path: Path) -> None:
    """Annotation on the left, masks from boxes on the right.

    `segment` takes an image (H, W, 3) and boxes (n, 4) and gives masks (n, H, W).
    """
    labeled = embedded_image()
    prompts = prompts_of(labeled.instances)
    rows = np.linspace(0, len(prompts.ids) - 1, min(_MOST, len(prompts.ids))).astype(int)
    truth = labeled.instances[None] == prompts.ids[rows][:, None, None]
    found = segment(labeled.image, prompts.boxes[rows])
    panels = [outline(labeled.image, truth, _TRUTH), outline(labeled.image, found, _FOUND)]
    with explained("write", path):
        side_by_side([panels], side=_SIDE).save(path, optimize=True)
