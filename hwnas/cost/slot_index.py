"""Where an arch's parts lie in per-slot tables: one integer for each arch and slot."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import SpaceError
from hwnas.space import Archs

if TYPE_CHECKING:
    from hwnas.space import Arch, SearchSpace, Slot

_LARGEST = 2**62  # a slot's combinations must be countable in an int64


@dataclass(frozen=True, slots=True)
class SlotLayout:
    """How the genes of one slot make one number, in mixed radix; digit 0 means absent.

    Attributes:
        slot: The slot.
        columns: Columns of its genes in the gene matrix.
        options: Options of each gene.
        strides: Weight of each gene's digit.
        size: Number of combinations, absence included.
    """

    slot: Slot
    columns: tuple[int, ...]
    options: tuple[tuple[Any, ...], ...]
    strides: tuple[int, ...]
    size: int

    def values(self, index: int) -> tuple[Any, ...] | None:
        """Return the options behind an index, or None where a gene is absent."""
        digits = [
            index // stride % (len(options) + 1)
            for stride, options in zip(self.strides, self.options, strict=True)
        ]
        if 0 in digits:
            return None
        return tuple(o[digit - 1] for digit, o in zip(digits, self.options, strict=True))


class SlotIndex:
    """Indexes archs of one space into the tables of its slots; the last batch is remembered.

    Models of one context are asked for the same archs one after the other, so they share this.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.layouts: tuple[SlotLayout, ...] = tuple(
            _layout(space, slot) for slot in space.slots or ()
        )
        self._last: tuple[weakref.ref[Archs], tuple[NDArray[np.intp], ...]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the remembered batch behind; it belongs to this process."""
        return self.__dict__ | {"_last": None}

    def of(self, archs: Sequence[Arch]) -> tuple[NDArray[np.intp], ...]:
        """Return for each slot the indexes of the archs, each of shape (n,).

        Raises:
            ArchError: an arch does not belong to the space.
        """
        batch = Archs.of(self.space, archs)
        if self._last is not None and self._last[0]() is batch:
            return self._last[1]
        indexes = self._compute(batch)
        self._last = (weakref.ref(batch, self._forget), indexes)
        return indexes

    def _forget(self, gone: weakref.ref[Archs]) -> None:
        if self._last is not None and self._last[0] is gone:
            self._last = None

    def _compute(self, archs: Archs) -> tuple[NDArray[np.intp], ...]:
        # one contiguous row a gene: the matrix has one a arch
        genes = np.ascontiguousarray(archs.matrix.T)
        out = []
        for layout in self.layouts:
            # absent is -1 in the matrix and digit 0 here
            index = np.full(len(archs), sum(layout.strides), np.intp)
            for column, stride in zip(layout.columns, layout.strides, strict=True):
                index += np.multiply(genes[column], stride, dtype=np.intp)
            out.append(index)
        return tuple(out)


def _layout(space: SearchSpace, slot: Slot) -> SlotLayout:
    columns = {gene.name: column for column, gene in enumerate(space.genes)}
    missing = [name for name in slot.genes if name not in columns]
    if missing:
        raise SpaceError(
            f"slot {slot.name} of {space.name} depends on unknown genes {', '.join(missing)}"
        )
    options = tuple(tuple(space.genes[columns[name]].options) for name in slot.genes)
    strides, size = [], 1
    for values in options:
        strides.append(size)
        size *= len(values) + 1
    if size > _LARGEST:
        raise SpaceError(
            f"slot {slot.name} of {space.name} depends on {len(options)} genes with {size:.1e} "
            "combinations; split it into parts that depend on fewer"
        )
    return SlotLayout(slot, tuple(columns[n] for n in slot.genes), options, tuple(strides), size)
