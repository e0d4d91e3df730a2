"""What an adapter costs: bytes of its file, memory and arithmetic of its training.

For spaces whose genes say which adapter a SAM is fine-tuned with (`search_spaces.sam_adapters`).
Bytes are those of the adapter itself, made for one block and counted for all; memory and arithmetic
are counted (`hwnas.adapters.training_cost`). What is left of an adapter at inference is in the
network that the space lowers, so `latency`, `bitops` and `macs` see it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hwnas.adapters.stored import AdapterSize, adapter_size
from hwnas.adapters.training_cost import TrainingCost, training_cost
from hwnas.cost import CostBatch, CostContext, Direction
from hwnas.errors import CostError
from hwnas.space import Arch, Archs
from hwnas.workload.adapter_choice import AdapterChoice
from hwnas.workload.sam import GEOMETRIES, SamGeometry

__all__ = ["AdapterBytes", "TrainingMacs", "TrainingMemory"]

Float = NDArray[np.float64]


class _AdapterCost(ABC):
    """One figure of what is counted of an adapter.

    Raises:
        CostError: the space does not choose adapters.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    direction: Direction = "min"

    def __init__(self, context: CostContext) -> None:
        facts = context.space.extras.get("adapters")
        if not facts or facts.get("geometry") not in GEOMETRIES:
            raise CostError(
                f"{self.name}: the space {context.space.name} does not choose adapters; use it on "
                "sam-vit-t-adapters or a space of search_spaces.sam_adapters"
            )
        self._space = context.space
        self._geometry = GEOMETRIES[facts["geometry"]]
        self._resolution = int(facts["resolution"])

    @abstractmethod
    def figure(self, size: AdapterSize, training: TrainingCost) -> float:
        """The cost, read off the counts."""

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        """Return the cost of each, shape (n,)."""
        counted = (
            _counted(AdapterChoice.of(arch.genes), self._geometry, self._resolution)
            for arch in Archs.of(self._space, archs)
        )
        return np.array([self.figure(*pair) for pair in counted], dtype=np.float64)

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        """Return the same values; their interval is a point."""
        return CostBatch.exact(self.evaluate(archs), unit=self.unit, model_version=f"{self.name}-1")


class AdapterBytes(_AdapterCost):
    """Bytes of the adapter's tensors as they are saved: what is sent to a device, or switched."""

    name, unit = "adapter_bytes", "B"

    def figure(self, size: AdapterSize, training: TrainingCost) -> float:
        del training
        return size.stored_bytes


class TrainingMemory(_AdapterCost):
    """Bytes of weights, of what is trained with its moments, and of what one image keeps.

    Of the image encoder, in float32, without recomputation, the libraries not counted.
    """

    name, unit = "training_memory", "B"

    def figure(self, size: AdapterSize, training: TrainingCost) -> float:
        del size
        return training.memory_bytes


class TrainingMacs(_AdapterCost):
    """GMACs of the image encoder in one training step of one image, forward and backward."""

    name, unit = "training_macs", "GMACs"

    def figure(self, size: AdapterSize, training: TrainingCost) -> float:
        del size
        return training.macs / 1e9


@lru_cache(maxsize=4096)
def _counted(
    choice: AdapterChoice, geometry: SamGeometry, resolution: int
) -> tuple[AdapterSize, TrainingCost]:
    size = adapter_size(choice, geometry)
    training = training_cost(
        choice, geometry, trained=size.trained, has_product=size.has_product, resolution=resolution
    )
    return size, training
