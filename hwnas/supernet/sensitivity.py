"""What a change of one block does to the embedding, block by block.

The network before the changed block is the same for every change of that block, so that it is run
once for all of them: half of the work of whole forward passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from hwnas.data.labeled import LabeledImage
from hwnas.data.transforms import preprocess
from hwnas.errors import ArchError
from hwnas.quant.bits import FLOAT_BITS
from hwnas.supernet.distortion import ChannelNoise, valid_part
from hwnas.workload.sam_geometry import SamGeometry
from hwnas.workload.sam_plan import EncoderPlan

__all__ = ["ChangeNoise", "embeddings_of_changes", "in_float", "zero_embedding"]


def in_float(plan: EncoderPlan) -> EncoderPlan:
    """The same network with nothing quantized."""
    four = (FLOAT_BITS,) * 4
    blocks = tuple(
        replace(block, w_bits=four, a_bits=four, attn_bits=FLOAT_BITS) for block in plan.blocks
    )
    return replace(plan, blocks=blocks, edge_bits=FLOAT_BITS, float_bits=FLOAT_BITS)


def zero_embedding(geometry: SamGeometry, images: torch.Tensor) -> torch.Tensor:
    """Zeros in place of the embedding (B, C, g, g) of images (B, 3, R, R)."""
    grid = geometry.grid(images.shape[-1])
    return torch.zeros(len(images), geometry.neck_dim, grid, grid, device=images.device)


@torch.inference_mode()
def embeddings_of_changes(
    encoder: Any, images: torch.Tensor, reference: EncoderPlan, changed: Sequence[EncoderPlan]
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (place in `changed`, embedding) of plans that differ from `reference` in one block.

    `encoder` is an `ElasticEncoder`, `images` (B, 3, R, R); embeddings (B, 256, g, g) equal those
    of `encoder(images, plan)` to the last bit. The order is that of the blocks; plans that differ
    in none come first.

    Raises:
        ArchError: a plan differs in more than one block, or in anything else.
    """
    places = [_place(plan, reference) for plan in changed]
    order = sorted(range(len(changed)), key=lambda i: (places[i] is not None, places[i] or 0))
    view = encoder.view(reference)
    x, done = view.tokens(images), 0  # x enters the block at place `done`
    unchanged: torch.Tensor | None = None
    for i in order:
        start = places[i]
        if start is None:
            unchanged = encoder(images, reference) if unchanged is None else unchanged
            yield i, unchanged
            continue
        while done < start:
            x, done = view.block(done, x), done + 1
        own, y = encoder.view(changed[i]), x
        for place in range(start, len(own.blocks)):
            y = own.block(place, y)
        yield i, own.neck(y)


class ChangeNoise:
    """Noise-to-signal ratio of changed networks against the float network, image by image.

    Raises CheckpointError where the supernet has no ranges for a bit-width.
    """

    def __init__(
        self, supernet: Any, images: Sequence[LabeledImage], reference: EncoderPlan
    ) -> None:
        self._supernet, self._reference = supernet, reference
        self._images = images
        self._noise = ChannelNoise(
            [self._valid(i, in_float(reference)) for i in range(len(images))]
        )

    def ratios(self, image: int, changed: Sequence[EncoderPlan]) -> Iterator[tuple[int, float]]:
        """Yield (place in `changed`, ratio) on one image, in the order of the blocks."""
        size = self._images[image].instances.shape
        found = embeddings_of_changes(
            self._supernet.encoder, self._input(image), self._reference, changed
        )
        for place, embedding in found:
            yield place, self._noise.ratio(image, valid_part(embedding, (size[0], size[1])))

    def _input(self, image: int) -> torch.Tensor:
        return preprocess(self._images[image].image, self._reference.resolution)[None]

    def _valid(self, image: int, plan: EncoderPlan) -> torch.Tensor:
        size = self._images[image].instances.shape
        embedding = self._supernet.embed(self._input(image), plan)
        return valid_part(embedding, (size[0], size[1]))


def _place(plan: EncoderPlan, reference: EncoderPlan) -> int | None:
    """Where the only block that differs stands among the kept ones; None if there is none."""
    same = replace(plan, blocks=reference.blocks) == reference
    if not same or len(plan.blocks) != len(reference.blocks):
        raise ArchError("the plans differ in more than a block; change one block at a time")
    pairs = zip(plan.blocks, reference.blocks, strict=True)
    differ = [place for place, (own, other) in enumerate(pairs) if own != other]
    if len(differ) > 1:
        raise ArchError(f"the plans differ in blocks {differ}; change one block at a time")
    return differ[0] if differ else None
