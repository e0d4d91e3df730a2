"""Additive costs of whole populations: a table for each slot, then a gather and a sum.

An additive cost of an arch is a sum over its parts, and each part depends on a few genes. So the
cost of every combination that was ever seen is kept, and a population is priced without a Python
loop over its archs. A space without slots is lowered arch by arch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwnas.cost.context import CostContext
from hwnas.cost.lowering import lower
from hwnas.cost.slot_index import SlotLayout
from hwnas.cost.slot_table import SlotTable
from hwnas.errors import CostError
from hwnas.space import Archs
from hwnas.workload.layers import LayerSpec
from hwnas.workload.table import LayerTable, WorkloadBatch

if TYPE_CHECKING:
    from hwnas.space import Arch

Float: TypeAlias = NDArray[np.float64]
Measure: TypeAlias = Callable[[LayerTable], Float]
Price: TypeAlias = Callable[[Sequence[tuple[LayerSpec, ...]]], Float]
Reduce: TypeAlias = Literal["sum", "max"]

_BATCH = 1024  # archs lowered at once in a space without slots


class SlotTables:
    """Totals over the layers of archs, of `width` quantities that `measure` gives for each layer.

    Args:
        context: Gives the space, and the index that other models of the context use too.
        measure: Maps a table of m layers to float64 of shape (m, width).
        width: Number of quantities.
        reduce: "sum" adds the layers up, "max" takes the largest; a network without layers has 0.
        price: Stands for `measure` where layers of a slot run as one: maps n tuples of layers to
            float64 of shape (n, width).

    Raises:
        CostError: neither `measure` nor `price` is given, or both are.
    """

    def __init__(
        self,
        context: CostContext,
        measure: Measure | None = None,
        *,
        width: int = 1,
        reduce: Reduce = "sum",
        price: Price | None = None,
    ) -> None:
        self._space = context.space
        self._index = context.slot_index
        if price is None and measure is not None:
            price = partial(_priced, measure=measure, reduce=reduce)
        elif price is None or measure is not None:
            raise CostError("SlotTables takes either measure or price")
        self._price: Price = price
        self._width = width
        self._reduce = reduce
        self._shared: dict[Hashable, SlotTable] = {}
        self._tables = [self._table(layout) for layout in self._index.layouts]
        self._by_id: dict[str, Float] = {}

    def totals(self, archs: Sequence[Arch], column: int | None = None) -> Float:
        """Return the totals of each arch, shape (n, width), or (n,) of one column.

        Raises:
            SpaceError: the space has neither slots nor a way to lower an arch.
            ArchError: an arch does not belong to the space.
        """
        columns = range(self._width) if column is None else (column,)
        out = self._gathered(archs, columns) if self._tables else self._lowered(archs, columns)
        return out.T if column is None else out[0]

    def parts(self, arch: Arch) -> dict[str, Float]:
        """Return the totals of each part of one arch, shape (width,), by the layers' `group`."""
        groups: dict[str, list[LayerSpec]] = {}
        for layer in lower(self._space, arch).layers:
            groups.setdefault(layer.group or layer.name, []).append(layer)
        values = self._price([tuple(layers) for layers in groups.values()])
        return dict(zip(groups, values, strict=True))

    @property
    def _combine(self) -> np.ufunc:
        return np.add if self._reduce == "sum" else np.maximum

    def _gathered(self, archs: Sequence[Arch], columns: Sequence[int]) -> Float:
        indexes = self._index.of(archs)
        out = self._looked_up(indexes, len(archs), columns)
        unknown = np.isnan(out[0])
        if unknown.any():
            for table, index in zip(self._tables, indexes, strict=True):
                table.fill(index[unknown])
            out = self._looked_up(indexes, len(archs), columns)
        return out

    def _looked_up(
        self, indexes: Sequence[NDArray[np.intp]], n: int, columns: Sequence[int]
    ) -> Float:
        """Gather and reduce, shape (len(columns), n); NaN where a combination is not known."""
        out, found = np.zeros((len(columns), n)), np.empty(n)
        combine = self._combine
        skips = self._reduce == "sum"
        for table, index in zip(self._tables, indexes, strict=True):
            values, rows = table.lookup(index)
            for place, (total, column) in enumerate(zip(out, columns, strict=True)):
                # the first column also tells what is not known yet
                if place and skips and not table.used[column]:
                    continue
                # every row is in range, and "clip" spares numpy the check and a buffer
                np.take(values[column], rows, out=found, mode="clip")
                combine(total, found, out=total)
        return out

    def _table(self, layout: SlotLayout) -> SlotTable:
        shared = layout.slot.shared
        key = (layout.slot.name,) if shared is None else (shared, layout.options)
        if key not in self._shared:
            self._shared[key] = SlotTable(layout, self._price, self._width)
        return self._shared[key]

    def _lowered(self, archs: Sequence[Arch], columns: Sequence[int]) -> Float:
        archs = Archs.of(self._space, archs)  # a callable that lowers need not know a stranger
        new = {arch.id: arch for arch in archs if arch.id not in self._by_id}
        pending = list(new.values())
        for start in range(0, len(pending), _BATCH):
            chunk = pending[start : start + _BATCH]
            rows = self._price([lower(self._space, arch).layers for arch in chunk])
            self._by_id.update(zip((arch.id for arch in chunk), rows, strict=True))
        out = np.array([self._by_id[arch.id] for arch in archs]).reshape(len(archs), self._width)
        return out[:, list(columns)].T


def _priced(
    workloads: Sequence[tuple[LayerSpec, ...]], *, measure: Measure, reduce: Reduce
) -> Float:
    """Totals of layers that are priced one by one, shape (n, width)."""
    batch = WorkloadBatch.of(workloads)
    values = measure(batch.table)
    return batch.sums(values) if reduce == "sum" else batch.maxima(values)
