"""A stand-in for quality: the logarithm of the weights, each counted with its bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import CostContext, Direction, SlotTables
from hwnas.registry import cost_models
from hwnas.space import Arch
from hwnas.workload import LayerTable


@cost_models.register("capacity")
class Capacity:
    """Natural logarithm of the bits that all weights hold."""

    name = "capacity"
    unit = "ln bits"
    direction: Direction = "max"

    def __init__(self, context: CostContext) -> None:
        self._bits = SlotTables(context, weight_bits)

    def evaluate(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """Return the logarithm, shape (n,)."""
        return np.log(self._bits.totals(archs)[:, 0])


def weight_bits(table: LayerTable) -> NDArray[np.float64]:
    """Return the bits that the weights of each layer hold, shape (m, 1)."""
    return np.asarray(table.weight_elems * table.w_bits, dtype=np.float64)[:, None]
