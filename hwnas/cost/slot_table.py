"""The costs of every combination of one slot's genes that was seen so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwnas.cost.slot_index import SlotLayout
from hwnas.workload.layers import LayerSpec

Float: TypeAlias = NDArray[np.float64]
Indexes: TypeAlias = NDArray[np.intp]
Price: TypeAlias = Callable[[Sequence[tuple[LayerSpec, ...]]], Float]

_DENSE = 2**18  # combinations up to which the table is one array
_BATCH = 4096  # workloads lowered at once, to bound memory


class SlotTable:
    """Rows of costs by combination; NaN marks one that is not known yet.

    `price` maps n tuples of layers to float64 of shape (n, width). A slot with few combinations
    has a row for each; one with many keeps a sorted list of those seen.
    """

    def __init__(self, layout: SlotLayout, price: Price, width: int) -> None:
        self._layout = layout
        self._price = price
        self._dense = layout.size <= _DENSE
        size = layout.size if self._dense else 1
        self._keys = np.arange(layout.size if self._dense else 0, dtype=np.intp)
        self._values = np.full((width, size), np.nan)
        self.used = np.zeros(width, np.bool_)
        """Columns in which a combination that was priced is not 0."""

    def lookup(self, index: Indexes) -> tuple[Float, Indexes]:
        """Return the table (width, m) and the column in it of each index, all in range."""
        if self._dense:
            return self._values, index
        # the last column stays NaN for combinations that are not there
        at = np.searchsorted(self._keys, index)
        last = len(self._keys)
        found = at < last
        found[found] = self._keys[at[found]] == index[found]
        return self._values, np.where(found, at, last)

    def fill(self, index: Indexes) -> None:
        """Price the combinations among `index` that are not known."""
        values, rows = self.lookup(index)
        missing = np.unique(index[np.isnan(values[0, rows])])
        if not missing.size:
            return
        priced = np.concatenate(
            [
                self._price([self._layers(int(i)) for i in missing[start : start + _BATCH]])
                for start in range(0, len(missing), _BATCH)
            ]
        )
        self.used |= (priced != 0.0).any(axis=0)
        if self._dense:
            self._values[:, missing] = priced.T
        else:
            self._insert(missing, priced.T)

    def _insert(self, missing: Indexes, priced: Float) -> None:
        keys = np.concatenate([self._keys, missing])
        order = np.argsort(keys)
        values = np.concatenate([self._values[:, :-1], priced], axis=1)[:, order]
        self._values = np.concatenate([values, self._values[:, -1:]], axis=1)
        self._keys = keys[order]

    def _layers(self, index: int) -> tuple[LayerSpec, ...]:
        values = self._layout.values(index)
        return () if values is None else tuple(self._layout.slot.layers(*values))
