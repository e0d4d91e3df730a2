"""Bytes of a network: its packed parameters, and the peak of its activations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import CostBatch, CostContext, Direction, SlotTables
from hwnas.cost.prompts import Part, decoder_runs
from hwnas.space import Arch
from hwnas.workload.table import LayerTable

__all__ = ["ModelSize", "PeakMemory"]

Float = NDArray[np.float64]


class ModelSize:
    """Bytes of the stored parameters.

    Weights are packed densely at their bits and padded to a byte a layer; biases, norms,
    quantizer scales and position tables take 4 bytes each number. `part="encoder"` leaves the
    prompt encoder and the mask decoder out. Padding of a file format is not counted.

    Raises:
        CostError: `part` makes no sense.
    """

    name = "model_size"
    unit = "B"
    direction: Direction = "min"

    def __init__(self, context: CostContext, *, part: Part = "system") -> None:
        stored = decoder_runs(part, 1, by=self.name)
        self._version = f"model_size-1 part={part}"
        self._tables = SlotTables(context, partial(_weight_bytes, decoder=stored))

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        """Return bytes, shape (n,)."""
        return self._tables.totals(archs, 0)

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        """Return the same values; their interval is a point."""
        return CostBatch.exact(self.evaluate(archs), unit=self.unit, model_version=self._version)

    def breakdown(self, arch: Arch) -> dict[str, float]:
        """Return bytes by part of the network."""
        return {part: float(value[0]) for part, value in self._tables.parts(arch).items()}


class PeakMemory:
    """Bytes of the activations that are alive at once, at the worst moment of one image.

    While a layer runs, its inputs, its output and the tensors that wait for a later layer are
    alive, each at its own bits; layers run one after the other and every tensor is materialized,
    attention scores included, as in the stock network. A runtime that fuses attention needs less.
    Parameters and workspace are not counted.

    Raises:
        CostError: `part` makes no sense.
    """

    name = "peak_memory"
    unit = "B"
    direction: Direction = "min"

    def __init__(self, context: CostContext, *, part: Part = "system") -> None:
        counted = decoder_runs(part, 1, by=self.name)
        self._version = f"peak_memory-1 part={part}"
        self._tables = SlotTables(context, partial(_live_bytes, decoder=counted), reduce="max")

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        """Return bytes, shape (n,)."""
        return self._tables.totals(archs, 0)

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        """Return the same values; their interval is a point."""
        return CostBatch.exact(self.evaluate(archs), unit=self.unit, model_version=self._version)


def _weight_bytes(table: LayerTable, decoder: int) -> Float:
    return (table.weight_bytes() * table.runs(decoder))[:, None]


def _live_bytes(table: LayerTable, decoder: int) -> Float:
    return (table.live_bytes() * table.runs(decoder))[:, None]
