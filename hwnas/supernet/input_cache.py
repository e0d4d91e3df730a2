"""Network inputs of fixed images at several resolutions, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from hwnas.data.labeled import LabeledImage
from hwnas.data.transforms import preprocess

__all__ = ["InputCache"]

_KEPT_BYTES = 1 << 30
# Pixels of one batch: what keeps a CPU busy without leaving its caches, and what fills a GPU.
_PIXELS_CPU, _PIXELS_GPU = 1 << 19, 1 << 24


class InputCache:
    """`preprocess` of each image at each resolution, kept up to a gigabyte; the rest is remade."""

    def __init__(self, images: Sequence[LabeledImage]) -> None:
        self._images = images
        self._kept: dict[tuple[int, int], torch.Tensor] = {}
        self._bytes = 0

    def batches(
        self, rows: Sequence[int], resolution: int, device: torch.device
    ) -> Iterator[tuple[Sequence[int], torch.Tensor]]:
        """The images `rows` in order, as (their rows, (B, 3, R, R)) on `device`."""
        pixels = _PIXELS_CPU if device.type == "cpu" else _PIXELS_GPU
        size = max(1, pixels // resolution**2)
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            yield part, torch.stack([self._input(row, resolution) for row in part]).to(device)

    def _input(self, row: int, resolution: int) -> torch.Tensor:
        key = (row, resolution)
        if key in self._kept:
            return self._kept[key]
        made = preprocess(self._images[row].image, resolution)
        size = made.numel() * made.element_size()
        if self._bytes + size <= _KEPT_BYTES:
            self._kept[key] = made
            self._bytes += size
        return made
