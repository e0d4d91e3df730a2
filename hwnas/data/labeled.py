"""An image with its objects and classes in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["IGNORED", "LabeledImage"]

IGNORED = 255  # of label maps: a pixel that neither trains nor scores


@dataclass(frozen=True, slots=True, eq=False)
class LabeledImage:
    """An image (H, W, 3) uint8 and the ids of its objects (H, W) int32, 0 for background.

    `labels` (H, W) uint8 has the class of each pixel: 0 background, 1 to C the `classes`, 255
    ignored; None where the data has no classes. Then every object is of one class, `object`.
    """

    name: str
    image: NDArray[np.uint8]
    instances: NDArray[np.int32]
    kind: str = ""
    labels: NDArray[np.uint8] | None = None
    classes: tuple[str, ...] = ("object",)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def semantic(self) -> NDArray[np.uint8]:
        """The class of each pixel (H, W), with or without `labels`."""
        if self.labels is not None:
            return self.labels
        return (self.instances > 0).astype(np.uint8)

    @property
    def ignored(self) -> NDArray[np.bool_] | None:
        """Pixels that do not score (H, W); None where all do."""
        if self.labels is None:
            return None
        found = self.labels == IGNORED
        return found if found.any() else None
