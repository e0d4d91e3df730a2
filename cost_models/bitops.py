"""Bit operations, exact, from shapes alone.

BitOPs = sum over layers of MACs x bits of one operand x bits of the other; an unquantized operand
counts its 16 or 32 bits. Products of two activations (scores, attention times values) and
relative-position products count, window padding counts; softmax, norms, GELU, sums and copies do
not. Decided in `docs/decisions/0001-bitops.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import CostBatch, CostContext, Direction, SlotTables
from hwnas.cost.prompts import Part, decoder_runs
from hwnas.space import Arch
from hwnas.workload.table import LayerTable

__all__ = ["Bitops", "system_bitops"]

Float = NDArray[np.float64]
_GIGA = 1e9


class Bitops:
    """GBitOPs of the image encoder, or of the whole system for a number of prompts.

    `part="encoder"` counts what runs once for each image; `part="system"` adds the mask decoder
    `prompts` times. A network without prompts has the same value for both.

    Raises:
        CostError: `part` or `prompts` makes no sense.
    """

    unit = "GBitOPs"
    direction: Direction = "min"

    def __init__(self, context: CostContext, *, part: Part = "encoder", prompts: int = 1) -> None:
        self.name = "system_bitops" if part == "system" else "bitops"
        runs = decoder_runs(part, prompts, by=self.name)
        self._version = f"bitops-1 part={part} decoder_runs={runs}"
        self._tables = SlotTables(context, partial(_bit_operations, prompts=runs))

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        """Return GBitOPs, shape (n,)."""
        return self._tables.totals(archs, 0) / _GIGA

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        """Return the same values; their interval is a point."""
        return CostBatch.exact(self.evaluate(archs), unit=self.unit, model_version=self._version)

    def breakdown(self, arch: Arch) -> dict[str, float]:
        """Return GBitOPs by part of the network."""
        return {part: float(value[0]) / _GIGA for part, value in self._tables.parts(arch).items()}


def system_bitops(context: CostContext, *, prompts: int = 1) -> Bitops:
    """GBitOPs of encoder and decoder: encoder + prompts x decoder."""
    return Bitops(context, part="system", prompts=prompts)


def _bit_operations(table: LayerTable, prompts: int) -> Float:
    return (table.bit_operations() * table.runs(prompts))[:, None]
