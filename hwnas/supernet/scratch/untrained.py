"""What stands for a supernet where there are no shared weights: networks made on demand.

The setting of zero-cost proxies in their papers: a network by itself, with weights just drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hwnas.data.labeled import LabeledImage
from hwnas.data.tiles import cut_tiles
from hwnas.errors import CheckpointError, CostError
from hwnas.space import Arch
from hwnas.supernet.probing import BatchSize, ImageBatch, Probe, Weights
from hwnas.supernet.scratch.network import BottleneckNet
from hwnas.supernet.scratch.tasks import task_of, tile_loss
from hwnas.workload.cnn_plan import CNNS, CnnGeometry, plan_of

__all__ = ["SPAN", "UntrainedCnn", "build"]

SPAN = 96
"""Pixels of an image that a tile covers, unless someone says otherwise."""

_CANDIDATES = 4  # tiles that are cut for each that is used, at least
_FEWEST = 256


def build(source: str | Path) -> UntrainedCnn:
    """The networks of a layout, by the name of its space.

    Raises:
        CheckpointError: it is no such name; there are no files to load.
    """
    geometry = CNNS.get(str(source))
    if geometry is None:
        raise CheckpointError(
            f"{source}: networks that are trained from scratch share no weights, so that there is "
            f"nothing to load; leave it out, or name one of {', '.join(CNNS)}"
        )
    return UntrainedCnn(geometry)


class UntrainedCnn:
    """Makes probes of the networks of a layout; each has weights of its own, just drawn.

    Batches are tiles of the annotated images, with the loss that training uses. Where the task is
    to count, its classes are parted by these tiles.
    """

    def __init__(self, geometry: CnnGeometry) -> None:
        self.geometry = geometry
        self._batches: dict[tuple[int, BatchSize], tuple[Any, tuple[ImageBatch, ...]]] = {}

    def probe_id(self, arch: Arch) -> str:
        """The network of an arch, whatever its bits."""
        return repr(plan_of(arch, self.geometry))

    def probe(self, arch: Arch, *, weights: Weights, seed: int) -> Probe:
        """A network with weights drawn by `seed`.

        Raises:
            CostError: inherited weights are asked for.
        """
        if weights != "fresh":
            raise CostError(
                f"networks of {self.geometry.name} have no weights to inherit; take fresh ones"
            )
        plan = plan_of(arch, self.geometry)
        network = BottleneckNet(plan, seed)

        def loss(batch: ImageBatch) -> torch.Tensor:
            return tile_loss(network(batch.images), batch.targets)

        return Probe(
            network, (3, plan.resolution, plan.resolution), network.layers(), loss,
            features=network.features, remove_residuals=network.remove_residuals,
        )  # fmt: skip

    def probe_batches(self, arch: Arch, data: Any, size: BatchSize) -> Sequence[ImageBatch]:
        """Batches of tiles at the resolution of an arch, drawn by the seed of their size."""
        key = int(arch["resolution"]), size
        known = self._batches.get(key)
        if known is None or known[0] is not data:
            known = self._batches[key] = data, self._cut(data, *key)
        return known[1]

    def _cut(
        self, images: Sequence[LabeledImage], resolution: int, size: BatchSize
    ) -> tuple[ImageBatch, ...]:
        rng, wanted = np.random.default_rng(size.seed), size.batches * size.images
        drawn = cut_tiles(
            images, max(_FEWEST, _CANDIDATES * wanted), side=resolution, span=SPAN, rng=rng
        )
        tiles = task_of(self.geometry, drawn).choose(drawn, wanted, rng)
        starts = range(0, len(tiles), size.images)
        return tuple(
            ImageBatch(tiles.inputs(rows), tiles.targets[rows])
            for rows in (slice(i, i + size.images) for i in starts)
        )
