"""Every architecture once, and the moves from one to its neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import SpaceError
from hwnas.space.constraints import Table
from hwnas.space.encoding import decode, variable_sizes
from hwnas.space.layout import Layout, Matrix
from hwnas.space.repair import scope_of

_CHUNK = 4096


def chunks(layout: Layout, tables: Sequence[Table], limit: int) -> Iterator[Matrix]:
    """Yield canonical matrices that together hold every valid arch once, in a fixed order.

    Variables are assigned one after the other, depths before the genes that they rule; an absent
    variable is not branched on, and a prefix that breaks a constraint is dropped.

    Raises:
        SpaceError: there are more than `limit` archs.
    """
    order = _order(layout)
    checks = _checks(layout, tables, order)
    start = (variable_sizes(layout) - 1)[None]
    pending = [(0, _kept(layout, checks[0], start))]
    seen = 0
    while pending:
        level, x = pending.pop()
        if len(x) > _CHUNK:
            pending += [(level, part) for part in (x[_CHUNK:], x[:_CHUNK])]
        elif level == len(order):
            seen += len(x)
            if seen > limit:
                raise SpaceError(
                    f"more than {limit:,} architectures; raise the limit, freeze genes, or sample"
                )
            if len(x):
                yield decode(layout, x)
        elif len(x):
            widened = _widened(layout, x, order[level])
            pending.append((level + 1, _kept(layout, checks[level + 1], widened)))


def moves(layout: Layout, x: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return all rows that differ from x, shape (n_var,), in one variable by one move."""
    rows = [np.empty((0, len(x)), dtype=np.int64)]
    for j, size in enumerate(variable_sizes(layout)):
        ordered = layout.genes[layout.groups[layout.free[j]][0]].ordered
        near = [v for v in (x[j] - 1, x[j] + 1) if 0 <= v < size]
        values = near if ordered else [v for v in range(size) if v != x[j]]
        moved = np.repeat(x[None], len(values), axis=0)
        moved[:, j] = values
        rows.append(moved)
    return np.concatenate(rows)


def _widened(layout: Layout, x: NDArray[np.int64], variable: int) -> NDArray[np.int64]:
    """Branch one variable where it is present; x has the last option of all unassigned ones."""
    columns = list(layout.groups[layout.free[variable]])
    present = (decode(layout, x)[:, columns] >= 0).any(axis=1)
    size = int(variable_sizes(layout)[variable])
    branched = np.repeat(x[present], size, axis=0)
    branched[:, variable] = np.tile(np.arange(size), int(present.sum()))
    return np.concatenate([x[~present], branched])


def _kept(layout: Layout, tables: list[Table], x: NDArray[np.int64]) -> NDArray[np.int64]:
    matrix = decode(layout, x)
    for table in tables:
        keep = ~table.violated(layout, matrix)
        x, matrix = x[keep], matrix[keep]
    return x


def _order(layout: Layout) -> list[int]:
    """Order variables so that each comes after the depths that decide whether it is present."""
    position = {g: j for j, g in enumerate(layout.free)}
    needs = {j: _deciders(layout, g) & set(position) for g, j in position.items()}
    needs = {j: {position[h] for h in deciders} for j, deciders in needs.items()}
    order: list[int] = []
    while len(order) < len(needs):
        ready = [j for j in needs if j not in order and needs[j] <= set(order)]
        if not ready:
            names = [layout.genes[layout.groups[layout.free[j]][0]].name for j in needs]
            raise SpaceError(f"links make depths depend on one another, among {names}; drop a link")
        order += ready
    return order


def _deciders(layout: Layout, group: int) -> set[int]:
    """Return the groups of the depths on which the presence of a group hangs."""
    return {int(layout.group_of[d]) for c in layout.presence[group] for d, _ in c}


def _checks(layout: Layout, tables: Sequence[Table], order: list[int]) -> list[list[Table]]:
    """Return, for each number of assigned variables, the tables that are then decided."""
    position = {g: j for j, g in enumerate(layout.free)}
    level = {j: n + 1 for n, j in enumerate(order)}
    out: list[list[Table]] = [[] for _ in range(len(order) + 1)]
    for table in tables:
        scope = scope_of(layout, table.columns)
        out[max((level[position[g]] for g in scope if g in position), default=0)].append(table)
    return out
