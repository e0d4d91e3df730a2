"""From choice indices that break constraints to near ones that do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import SpaceError
from hwnas.space.constraints import Table
from hwnas.space.encoding import decode, leaders, variable_sizes
from hwnas.space.layout import Layout, Matrix
from hwnas.space.messages import shown

_ROUNDS = 16
_STEPS = 10_000


@dataclass(frozen=True, eq=False)
class Component:
    """Constraints that share search variables, and those variables (depths included)."""

    tables: tuple[Table, ...]
    variables: NDArray[np.intp]


def components(layout: Layout, tables: Sequence[Table]) -> list[Component]:
    """Split constraints into sets that can be met independently of one another."""
    merged: list[tuple[set[int], list[Table]]] = []
    for table in tables:
        scope, held = scope_of(layout, table.columns), [table]
        for other in [m for m in merged if m[0] & scope]:
            merged.remove(other)
            scope |= other[0]
            held = other[1] + held
        merged.append((scope, held))
    position = {g: j for j, g in enumerate(layout.free)}
    return [
        Component(tuple(held), np.array(sorted(position[g] for g in scope if g in position), int))
        for scope, held in merged
    ]


def broken_rows(layout: Layout, tables: Sequence[Table], x: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say for each row of choice indices whether it breaks one of the tables, shape (n,)."""
    matrix = decode(layout, x)
    bad = np.zeros(len(x), dtype=np.bool_)
    for table in tables:
        bad |= table.violated(layout, matrix)
    return bad


def scope_of(layout: Layout, columns: Sequence[int]) -> set[int]:
    """Return the groups of the columns and of all the depths that they hang on."""
    depths = [d for c in columns for d, _ in layout.conditions[c]]
    return {int(layout.group_of[c]) for c in [*columns, *depths]}


def repair(layout: Layout, tables: Sequence[Table], x: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return x with every row made valid; valid rows are returned as they are.

    Constraint by constraint, a broken row moves to the nearest allowed combination: one for each
    step of an ordered choice, one for a change of an unordered one, the first in the order of the
    options among equals. After 16 rounds, a row that is still broken is searched from its own
    values outwards, up to 10,000 steps. Deterministic.

    Raises:
        SpaceError: no valid combination was found; names the constraints.
    """
    out = x.copy()
    for _ in range(_ROUNDS):
        if not _moved(layout, tables, out):
            return out
    for component in components(layout, tables):
        for row in np.flatnonzero(broken_rows(layout, component.tables, out)):
            out[row] = _search(layout, component, out[row])
    return out


def _moved(layout: Layout, tables: Sequence[Table], x: NDArray[np.int64]) -> bool:
    """Move, in place, the rows that break a table, table by table; say whether there were any."""
    matrix = decode(layout, x)
    moved = False
    for table in tables:
        rows = np.flatnonzero(table.violated(layout, matrix))
        if len(rows):
            moved = True
            x[rows] = _move(layout, table, x[rows], matrix[rows])
            matrix[rows] = decode(layout, x[rows])
    return moved


def _move(layout: Layout, table: Table, x: NDArray[np.int64], matrix: Matrix) -> NDArray[np.int64]:
    """Return x, (n, n_var), with the groups of one table at their nearest allowed options."""
    if not table.allowed.any():
        return x  # only a depth that drops one of its genes can help; see _search
    columns = [table.column_of(layout, g) for g in table.groups]
    ordered = np.array([layout.genes[c].ordered for c in columns])
    allowed = np.argwhere(table.allowed)  # (n_allowed, n_groups), in the order of the options
    current, inverse = np.unique(matrix[:, columns], axis=0, return_inverse=True)
    nearest = np.stack([allowed[_nearest(allowed, c, ordered)] for c in current])
    out = x.copy()
    position = {g: j for j, g in enumerate(layout.free)}
    for k, g in enumerate(table.groups):
        if g in position:
            out[:, position[g]] = nearest[inverse.ravel(), k]
    return out


def _nearest(
    allowed: NDArray[np.intp], current: NDArray[np.int16], ordered: NDArray[np.bool_]
) -> int:
    steps = np.abs(allowed - current)
    return int(np.where(ordered, steps, np.minimum(steps, 1)).sum(axis=1).argmin())


def _search(layout: Layout, component: Component, row: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find valid values for a component by depth-first search, nearest values first."""
    spent = 0
    for candidate in _candidates(layout, component, row):
        if candidate is not None:
            return candidate
        spent += 1
        if spent >= _STEPS:
            break
    labels = shown(dict.fromkeys(t.label for t in component.tables))
    reason = "they exclude one another" if spent < _STEPS else f"gave up after {spent:,} steps"
    raise SpaceError(f"no architecture found that meets {labels}: {reason}; relax one of them")


def _candidates(
    layout: Layout, component: Component, row: NDArray[np.int64]
) -> Iterator[NDArray[np.int64] | None]:
    """Walk the tree of partial assignments; yield None for each dead end, or a valid row."""
    columns = [leaders(layout)[v] for v in component.variables]
    # Depths come first: whether a constraint binds is known before the genes that it binds.
    order = sorted(
        range(len(columns)), key=lambda k: (len(layout.conditions[columns[k]]), columns[k])
    )
    pending = [(0, row)]
    while pending:
        level, current = pending.pop()
        done = {int(component.variables[k]) for k in order[:level]}
        if _dead(layout, component, current, done):
            yield None
        elif level == len(order):
            yield current
        else:
            branches = _branches(layout, current, int(component.variables[order[level]]))
            pending += [(level + 1, b) for b in reversed(branches)]


def _branches(layout: Layout, row: NDArray[np.int64], variable: int) -> list[NDArray[np.int64]]:
    size = int(variable_sizes(layout)[variable])
    branches = []
    for value in sorted(range(size), key=lambda v: (abs(v - int(row[variable])), v)):
        branch = row.copy()
        branch[variable] = value
        branches.append(branch)
    return branches


def _dead(layout: Layout, component: Component, row: NDArray[np.int64], done: set[int]) -> bool:
    """Say whether a table whose variables are all assigned is broken."""
    free = {g: j for j, g in enumerate(layout.free)}
    settled = [
        t
        for t in component.tables
        if all(free[g] in done for g in scope_of(layout, t.columns) if g in free)
    ]
    return bool(settled) and bool(broken_rows(layout, settled, row[None])[0])
