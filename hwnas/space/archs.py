"""Many architectures of one space as rows of an integer matrix."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwnas.space.arch import Arch, digest
from hwnas.space.layout import Matrix

if TYPE_CHECKING:
    from hwnas.space.space import SearchSpace


class Archs(Sequence[Arch]):
    """A sequence of canonical archs backed by option indexes; items and ids are made on demand.

    `matrix` is int16 of shape (n, n_genes), read-only: the index of the option of each gene of
    `space.genes`, -1 where the gene is absent. Made by a `SearchSpace` or by `Archs.of`; the
    constructor checks nothing.
    """

    def __init__(self, space: SearchSpace, matrix: Matrix) -> None:
        self.space = space
        self.matrix = np.ascontiguousarray(matrix, dtype=np.int16).view()
        self.matrix.flags.writeable = False

    @classmethod
    def of(cls, space: SearchSpace, archs: Sequence[Arch]) -> Archs:
        """Return the archs as rows of `space`; those that are already are returned as they are.

        Raises:
            ArchError: an arch is not one of this space.
        """
        return space.archs(archs)

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    @overload
    def __getitem__(self, key: int) -> Arch: ...

    @overload
    def __getitem__(self, key: slice) -> Archs: ...

    def __getitem__(self, key: int | slice) -> Arch | Archs:
        if isinstance(key, slice):
            return Archs(self.space, self.matrix[key])
        row = self.matrix[key]
        genes = self.space.genes
        return Arch(
            self.space.name,
            {genes[c].name: genes[c].options[row[c]] for c in np.flatnonzero(row >= 0)},
        )

    def __reduce__(self) -> tuple[type[Archs], tuple[SearchSpace, Matrix]]:
        return Archs, (self.space, self.matrix)  # numpy forgets that the matrix is read-only

    def __repr__(self) -> str:
        return f"Archs({self.space.name!r}, n={len(self)})"

    def take(self, rows: ArrayLike) -> Archs:
        """Return the rows given by an index array or a boolean mask, in that order."""
        index = np.asarray(rows)
        if index.size == 0 and index.dtype != np.bool_:
            index = index.astype(np.intp)  # numpy reads an empty list as floats
        return Archs(self.space, self.matrix[index])

    def values(self, name: str) -> NDArray[np.object_]:
        """Return the values of one gene, shape (n,), None where it is absent.

        Raises:
            SpaceError: the space has no such gene.
        """
        gene = self.space.gene(name)
        options = np.array([*gene.options, None], dtype=object)
        return options[self.matrix[:, self.space.column(name)]]

    def unique(self) -> Archs:
        """Return each arch once, in the order of first occurrence."""
        return self.take(np.sort(first_rows(self.matrix)))

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The id of each arch, equal to `Arch.id`."""
        columns = sorted(range(len(self.space.genes)), key=lambda c: self.space.genes[c].name)
        spelled = [_spellings(self.space, c) for c in columns]
        tail = f'}},"space":{json.dumps(self.space.name)}}}'
        rows = self.matrix[:, columns].tolist()
        return tuple(digest('{"genes":{' + ",".join(_present(spelled, row)) + tail) for row in rows)


def first_rows(matrix: Matrix) -> NDArray[np.intp]:
    """Return the row number of the first occurrence of each different row."""
    if matrix.shape[0] == 0 or matrix.shape[1] == 0:
        return np.arange(min(1, matrix.shape[0]), dtype=np.intp)
    rows = np.ascontiguousarray(matrix)
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    return np.unique(keys, return_index=True)[1]


def _spellings(space: SearchSpace, column: int) -> list[str]:
    gene = space.genes[column]
    return [f"{json.dumps(gene.name)}:{json.dumps(o)}" for o in gene.options]


def _present(spelled: list[list[str]], row: list[int]) -> list[str]:
    return [options[i] for options, i in zip(spelled, row, strict=True) if i >= 0]
