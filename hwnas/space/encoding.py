"""The integer form for search: one choice index for each search variable."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwnas.errors import ArchError
from hwnas.space.layout import Layout, Matrix
from hwnas.space.messages import shown


def variable_sizes(layout: Layout) -> NDArray[np.int64]:
    """Return the number of options of each search variable, shape (n_var,)."""
    return np.array([len(layout.genes[c].options) for c in leaders(layout)], dtype=np.int64)


def leaders(layout: Layout) -> list[int]:
    """Return the column of the gene that names each search variable, shape (n_var,)."""
    return [layout.groups[g][0] for g in layout.free]


def encode(layout: Layout, matrix: Matrix) -> NDArray[np.int64]:
    """Return choice indices, shape (n, n_var); an absent variable has its last option."""
    x = matrix[:, leaders(layout)].astype(np.int64)
    for j, g in enumerate(layout.free):
        if len(layout.groups[g]) > 1:
            x[:, j] = matrix[:, list(layout.groups[g])].max(axis=1)
    return np.where(x < 0, variable_sizes(layout) - 1, x)


def spread(layout: Layout, x: NDArray[np.int64]) -> Matrix:
    """Give each gene the index of its variable, (n, n_var) to (n, n_genes); fixed genes get 0."""
    padded = np.zeros((x.shape[0], x.shape[1] + 1), dtype=np.int16)  # last column: fixed genes
    padded[:, :-1] = x
    position = np.full(len(layout.groups), x.shape[1], dtype=np.intp)
    position[list(layout.free)] = np.arange(x.shape[1])
    return np.take(padded, position[layout.group_of], axis=1)


def decode(layout: Layout, x: NDArray[np.int64]) -> Matrix:
    """Return the canonical gene matrix of choice indices."""
    return layout.canonical(spread(layout, x))


def checked_indices(layout: Layout, x: ArrayLike) -> NDArray[np.int64]:
    """Return x as int64 of shape (n, n_var).

    Raises:
        ArchError: the shape, the type or a value does not fit the search variables.
    """
    given = np.asarray(x)
    sizes = variable_sizes(layout)
    if given.ndim != 2 or given.shape[1] != len(sizes):
        raise ArchError(f"choice indices of shape {given.shape}; expected (n, {len(sizes)})")
    if given.size and not np.issubdtype(given.dtype, np.integer):
        raise ArchError(f"choice indices of type {given.dtype}; expected integers; round them")
    indices = given.astype(np.int64)
    outside = np.any((indices < 0) | (indices >= sizes), axis=0, keepdims=True)[0]
    if outside.any():
        names = [
            f"'{layout.genes[c].name}' takes 0 to {sizes[j] - 1}"
            for j, c in enumerate(leaders(layout))
            if outside[j]
        ]
        raise ArchError(f"choice indices out of range: {shown(names)}")
    return indices
