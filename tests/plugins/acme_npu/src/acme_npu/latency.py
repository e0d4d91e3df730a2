"""Latency of the Acme NPU: one pass of its array per 1024 products of 8 by 8 bits.

Given to `hwnas search --cost` as a file, as a module path, or by the name that is announced.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import CostContext, Direction, SlotTables
from hwnas.registry import cost_models
from hwnas.space import Arch
from hwnas.workload import LayerTable

__all__ = ["AcmeLatency"]

PRODUCTS_A_PASS = 1024
PASSES_A_SECOND = 500e6


@cost_models.register("acme_latency")
class AcmeLatency:
    """Milliseconds of one image, launches included."""

    name = "acme_latency"
    unit = "ms"
    direction: Direction = "min"
    monotone_in_bits = True

    def __init__(self, context: CostContext) -> None:
        self._launch_s = context.require("device", by=self.name).launch_s
        self._seconds = SlotTables(context, self._layer_seconds)

    def evaluate(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """Return milliseconds, shape (n,)."""
        return 1e3 * self._seconds.totals(archs)[:, 0]

    def _layer_seconds(self, table: LayerTable) -> NDArray[np.float64]:
        products = np.ceil(table.w_bits / 8) * np.ceil(table.a_bits / 8) * table.macs
        passes = np.ceil(products / PRODUCTS_A_PASS)
        return np.asarray(self._launch_s + passes / PASSES_A_SECOND, dtype=np.float64)[:, None]
