"""How much a subnet's image embedding is disturbed, without looking at masks.

For each image the largest network in full precision embeds it at the largest resolution: the
teacher. The subnet embeds it at its own resolution; the result is resized (bilinear) to the
teacher's grid, so that every arch is compared with the same target and pays for the detail that a
small input loses. Padding is left out. The value is the mean over images of the per-channel
noise-to-signal ratio (`hwnas.supernet.distortion`): 0 is perfect, 1 is as bad as a constant.

It is a proxy: cheap, smooth, and blind to what the mask decoder makes of an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hwnas.cost import CostBatch, CostContext, Direction
from hwnas.cost.embedding import require_embedding
from hwnas.data.folder import LabeledImage
from hwnas.data.scores import mean_with_error
from hwnas.data.transforms import preprocess
from hwnas.errors import CostError
from hwnas.space import Arch, Archs
from hwnas.supernet.distortion import ChannelNoise, resize_embedding, valid_part

__all__ = ["EmbeddingDistortion"]

Float = NDArray[np.float64]


class EmbeddingDistortion:
    """Mean per-channel noise-to-signal ratio of the embedding, over real images.

    `max_images` of the context's data are used, the first ones. The interval is one standard
    error over images to either side; with one image there is none.

    Raises:
        CostError: the context has no supernet or no data, or `max_images` is not positive.
    """

    name = "embedding_distortion"
    unit = "NSR"
    direction: Direction = "min"
    fidelity = "proxy"
    needs = ("supernet", "data")

    def __init__(self, context: CostContext, *, max_images: int = 8) -> None:
        if max_images < 1:
            raise CostError(f"{self.name}: max_images is {max_images}; expected 1 or more")
        self._context, self._max_images = context, max_images
        self._inputs: dict[int, list[torch.Tensor]] = {}
        self._target: tuple[int, ChannelNoise] | None = None

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        """Return the ratios, shape (n,)."""
        return self.estimate(archs).value

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        """Return the ratios with one standard error over images."""
        own = Archs.of(self._context.space, archs)
        scores = [mean_with_error(self._ratios(arch)) for arch in own]
        return CostBatch.of_means(
            scores,
            fidelity="proxy",
            unit=self.unit,
            model_version=f"embedding_distortion-1 images={self._max_images}",
        )

    @torch.inference_mode()
    def _ratios(self, arch: Arch) -> list[float]:
        supernet = self._supernet()
        grid, noise = self._teacher(supernet)
        ratios = []
        for place, image in enumerate(self._images()):
            batch = self._input(place, supernet.resolution(arch))
            embedding = resize_embedding(supernet.embed(batch, arch), grid)
            ratios.append(noise.ratio(place, valid_part(embedding, image.instances.shape)))
        return ratios

    def _teacher(self, supernet: Any) -> tuple[int, ChannelNoise]:
        if self._target is None:
            size = supernet.geometry.image_size
            embeddings = [
                valid_part(supernet.teacher(self._input(place, size)), image.instances.shape)
                for place, image in enumerate(self._images())
            ]
            self._target = supernet.geometry.grid(size), ChannelNoise(embeddings)
        return self._target

    def _input(self, place: int, resolution: int) -> torch.Tensor:
        if resolution not in self._inputs:
            self._inputs[resolution] = [
                preprocess(image.image, resolution)[None] for image in self._images()
            ]
        return self._inputs[resolution][place]

    def _images(self) -> Sequence[LabeledImage]:
        images: Sequence[LabeledImage] = self._context.require("data", by=self.name)
        return images[: self._max_images]

    def _supernet(self) -> Any:
        return require_embedding(self._context, by=self.name)
