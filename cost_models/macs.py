"""Multiply-accumulates, exact, from shapes alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import CostBatch, CostContext, Direction, SlotTables
from hwnas.cost.prompts import Part, decoder_runs
from hwnas.space import Arch
from hwnas.workload.table import LayerTable

__all__ = ["Macs"]

Float = NDArray[np.float64]
_GIGA = 1e9


class Macs:
    """GMACs of the image encoder, or of the system for a number of prompts; 1 MAC = 2 FLOPs.

    Published counts of SAM come in two conventions: with the products inside attention, and
    without. `attention=False` leaves those of the encoder out, and keeps the decoder whole.

    Raises:
        CostError: `part` or `prompts` makes no sense.
    """

    name = "macs"
    unit = "GMACs"
    direction: Direction = "min"

    def __init__(
        self,
        context: CostContext,
        *,
        part: Part = "encoder",
        prompts: int = 1,
        attention: bool = True,
    ) -> None:
        runs = decoder_runs(part, prompts, by=self.name)
        self._version = f"macs-1 part={part} decoder_runs={runs} attention={attention}"
        self._tables = SlotTables(context, partial(_macs, prompts=runs, attention=attention))

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        """Return GMACs, shape (n,)."""
        return self._tables.totals(archs, 0) / _GIGA

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        """Return the same values; their interval is a point."""
        return CostBatch.exact(self.evaluate(archs), unit=self.unit, model_version=self._version)

    def breakdown(self, arch: Arch) -> dict[str, float]:
        """Return GMACs by part of the network."""
        return {part: float(value[0]) / _GIGA for part, value in self._tables.parts(arch).items()}


def _macs(table: LayerTable, prompts: int, attention: bool) -> Float:
    counted = table.macs * table.runs(prompts)
    if not attention:
        counted = np.where(table.is_kind("matmul") & ~table.per_prompt, 0, counted)
    return counted.astype(np.float64)[:, None]
