"""Random architectures from a given generator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwnas.space.constraints import Table
from hwnas.space.encoding import variable_sizes
from hwnas.space.layout import Layout
from hwnas.space.repair import broken_rows, components, repair

_TRIES = 64


def sample(
    layout: Layout, tables: tuple[Table, ...], rng: np.random.Generator, n: int
) -> NDArray[np.int64]:
    """Draw choice indices of n valid archs, shape (n, n_var).

    Every search variable is uniform over its options, depths included, so shallow and deep networks
    are drawn as often as their depth options say (uniform over networks would nearly always be the
    deepest). Where a constraint is broken, the variables that it touches are drawn again, up to 64
    times, which is exactly the uniform draw given the constraints; rows that are still broken are
    repaired.
    """
    sizes = variable_sizes(layout)
    x = rng.integers(0, sizes, size=(n, len(sizes)), dtype=np.int64)
    for component in components(layout, tables):
        rows, columns = np.arange(n), component.variables
        for _ in range(_TRIES):
            rows = rows[broken_rows(layout, component.tables, x[rows])]
            if not len(rows):
                break
            shape = (len(rows), len(columns))
            x[np.ix_(rows, columns)] = rng.integers(0, sizes[columns], size=shape)
    return repair(layout, tables, x)
