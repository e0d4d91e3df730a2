"""What a proxy of quality is compared with, and which way it points.

Counts of a network rank its subnets well enough to embarrass many a proxy, and on some spaces the
wrong way round: no proxy is judged without them. Source: the project's specification of cost
models, sections 8.4 and 8.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwnas.cost.context import CostContext
from hwnas.cost.slot_tables import SlotTables
from hwnas.errors import SpaceError

if TYPE_CHECKING:
    from hwnas.space import Arch
    from hwnas.workload.table import LayerTable

__all__ = ["DEPTH", "LOG_MACS", "LOG_PARAMS", "Counts", "quality_sign"]

Float = NDArray[np.float64]
LOG_PARAMS, LOG_MACS, DEPTH = "log params", "log MACs", "depth"


def quality_sign(model: Any) -> Literal[1, -1]:
    """Whether quality should grow (1) or fall (-1) with the value of a cost model.

    It falls with a proxy whose direction is `min` (a distortion). It grows with whatever has the
    direction `max`, and with a cost that is to be kept low (BitOPs, latency, bytes): more of it
    buys quality. A proxy is known by its `fidelity`.
    """
    falls = model.direction == "min" and getattr(model, "fidelity", None) == "proxy"
    return -1 if falls else 1


class Counts:
    """Natural logarithms of parameters and MACs, and depth: the layers that have weights.

    What runs once for each prompt is not counted. Of a space that is not lowered to layers nothing
    is known but the sum of its depth genes, if it has any.
    """

    def __init__(self, context: CostContext) -> None:
        self._context = context

    def of(self, archs: Sequence[Arch]) -> dict[str, Float]:
        """Return what is known, by name, each of shape (n,).

        Raises:
            ArchError: an arch does not belong to the space.
        """
        try:
            params, macs, layers = self._tables.totals(archs).T
        except SpaceError:
            return self._of_genes(archs)
        # a network without layers has no logarithm, and none is less than one parameter
        logs = {LOG_PARAMS: params, LOG_MACS: macs}
        return {n: np.log(np.maximum(v, 1.0)) for n, v in logs.items()} | {DEPTH: layers.copy()}

    @cached_property
    def _tables(self) -> SlotTables:
        return SlotTables(self._context, _counted, width=3)

    def _of_genes(self, archs: Sequence[Arch]) -> dict[str, Float]:
        space = self._context.space
        own = space.archs(archs)
        genes = [
            gene for gene in space.genes
            if gene.role == "depth" and not any(isinstance(o, str) for o in gene.options)
        ]  # fmt: skip
        if not genes:
            return {}
        values = [[float(v or 0) for v in own.values(gene.name)] for gene in genes]
        return {DEPTH: np.array(values, dtype=np.float64).sum(axis=0)}


def _counted(table: LayerTable) -> Float:
    """Parameters, MACs and whether it has weights, of each layer, shape (m, 3)."""
    once = table.runs(0)
    params = (table.weight_elems + table.bias_elems) * once
    weighted = (table.macs > 0) & (table.weight_elems > 0)
    return np.stack([params, table.macs * once, weighted * once], axis=1).astype(np.float64)
