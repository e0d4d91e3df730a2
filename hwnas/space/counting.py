"""How many architectures a space has: exact by variable elimination, else an upper bound.

Every architecture is one assignment of an option, or of "absent", to each group of tied genes.
Whether a group is absent follows from its depths, and constraints forbid combinations; both are
0/1 factors over a few groups. Summing groups out one after the other (bucket elimination, Dechter
1999) counts the assignments that all factors admit, in whole numbers of any length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from hwnas.space.constraints import Table
from hwnas.space.layout import Condition, Layout

_MAX_FACTOR = 200_000  # entries; above it the count gives way to the bound


@dataclass(frozen=True)
class Count:
    """A number of architectures; an upper bound unless exact."""

    number: int
    exact: bool


@dataclass(frozen=True, eq=False)
class _Factor:
    groups: tuple[int, ...]
    weight: NDArray[np.object_]  # one axis for each group, whole numbers


class _TooWideError(Exception):
    """A factor would exceed the limit."""


def count(layout: Layout, tables: Sequence[Table]) -> Count:
    """Count architectures; the bound ignores constraints or, failing that, absences too."""
    for held, exact in ((tables, True), ((), not tables)):
        try:
            return Count(_counted(layout, held), exact)
        except _TooWideError:
            continue
    sizes = [len(layout.genes[layout.groups[g][0]].options) for g in layout.free]
    return Count(math.prod(sizes), False)


def _counted(layout: Layout, tables: Sequence[Table]) -> int:
    alive = [g for g, cols in enumerate(layout.groups) if not all(layout.never[c] for c in cols)]
    factors = [f for g in alive for f in _activity(layout, g)]
    factors += [_constraint(layout, table) for table in tables]
    return _eliminate(factors, {g: len(_levels(layout, g)) for g in alive})


def _levels(layout: Layout, group: int) -> NDArray[np.int64]:
    """Return the states of a group: its option indexes, then -1 if it may be absent."""
    columns = layout.groups[group]
    absent = [-1] if layout.may_be_absent(group) else []
    return np.array([*range(len(layout.genes[columns[0]].options)), *absent])


def _activity(layout: Layout, group: int) -> list[_Factor]:
    """Tie the state "absent" to the depths: one factor, or none for a group always present."""
    if not layout.may_be_absent(group):
        return []
    alternatives = layout.presence[group]
    scope = _scope(layout, {group, *_depths(layout, [d for c in alternatives for d, _ in c])})
    active = reduce(np.logical_or, [_holds(layout, c, scope) for c in alternatives])
    absent = _along(_levels(layout, group) < 0, scope.index(group), len(scope))
    return [_Factor(scope, _whole(layout, scope, active != absent))]


def _constraint(layout: Layout, table: Table) -> _Factor:
    conditions = [c for column in table.columns for c in layout.conditions[column]]
    scope = _scope(layout, {*table.groups, *_depths(layout, [d for d, _ in conditions])})
    binds = _holds(layout, conditions, scope)
    states = np.ix_(*(_levels(layout, g) for g in table.groups))  # -1 reads the last: masked
    allowed = table.allowed[states]
    order = sorted(range(len(table.groups)), key=lambda k: scope.index(table.groups[k]))
    shape = [allowed.shape[table.groups.index(g)] if g in table.groups else 1 for g in scope]
    widened = allowed.transpose(order).reshape(shape)
    return _Factor(scope, _whole(layout, scope, widened | ~binds))


def _depths(layout: Layout, columns: Sequence[int]) -> set[int]:
    return {int(layout.group_of[c]) for c in columns}


def _scope(layout: Layout, groups: set[int]) -> tuple[int, ...]:
    scope = tuple(sorted(groups))
    if math.prod(len(_levels(layout, g)) for g in scope) > _MAX_FACTOR:
        raise _TooWideError
    return scope


def _holds(
    layout: Layout, conditions: Sequence[Condition], scope: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Say for which states of the scope's groups all conditions hold; broadcasts over the scope."""
    held = np.ones((1,) * len(scope), dtype=np.bool_)
    for depth, first in conditions:
        group = int(layout.group_of[depth])
        held = held & _along(_levels(layout, group) >= first, scope.index(group), len(scope))
    return held


def _along(values: NDArray[np.bool_], axis: int, axes: int) -> NDArray[np.bool_]:
    return values.reshape([-1 if a == axis else 1 for a in range(axes)])


def _whole(
    layout: Layout, scope: tuple[int, ...], admitted: NDArray[np.bool_]
) -> NDArray[np.object_]:
    shape = tuple(len(_levels(layout, g)) for g in scope)
    return np.broadcast_to(admitted, shape).astype(int).astype(object)


def _eliminate(factors: list[_Factor], states: dict[int, int]) -> int:
    """Sum out all groups, each time the one that makes the smallest factor."""
    near: dict[int, set[int]] = {g: {g} for g in states}
    for f in factors:
        for g in f.groups:
            near[g] |= set(f.groups)
    width = {g: math.prod(states[h] for h in near[g]) for g in near}
    number = 1
    while near:
        group = min(width, key=lambda g: (width[g], g))
        if width.pop(group) > _MAX_FACTOR:
            raise _TooWideError
        scope = near.pop(group)
        touching = [f for f in factors if group in f.groups]
        factors = [f for f in factors if group not in f.groups]
        for h in scope - {group}:
            near[h] = (near[h] | scope) - {group}
            width[h] = math.prod(states[i] for i in near[h])
        if not touching:
            number *= states[group]
            continue
        summed = _summed(touching, tuple(sorted(scope)), group)
        if summed.groups:
            factors.append(summed)
        else:
            number *= int(summed.weight)
    return number


def _summed(touching: list[_Factor], scope: tuple[int, ...], group: int) -> _Factor:
    product: NDArray[np.object_] = np.array(1, dtype=object)
    for f in touching:
        shape = [f.weight.shape[f.groups.index(g)] if g in f.groups else 1 for g in scope]
        product = product * f.weight.reshape(shape)
    weight = np.asarray(product.sum(axis=scope.index(group)), dtype=object)
    return _Factor(tuple(g for g in scope if g != group), weight)
