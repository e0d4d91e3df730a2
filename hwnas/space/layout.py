"""The gene matrix: its columns, when they are active, and which of them vary together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import SpaceError
from hwnas.space.declarations import Scalar, option_key
from hwnas.space.genes import Flat, Gate, Gene
from hwnas.space.messages import Problems, matching

Matrix: TypeAlias = NDArray[np.int16]  # (n, n_genes) option indexes, -1 = absent
Condition: TypeAlias = tuple[int, int]  # column of a depth, first option index that activates


@dataclass(frozen=True)
class Layout:
    """Columns of the gene matrix.

    `conditions[c]` are all the conditions under which gene c is active, those of its depths
    included. `groups` partitions the columns into tied genes.
    """

    genes: tuple[Gene, ...]
    conditions: tuple[tuple[Condition, ...], ...]
    groups: tuple[tuple[int, ...], ...]

    @cached_property
    def column(self) -> dict[str, int]:
        """Column of each gene name."""
        return {g.name: c for c, g in enumerate(self.genes)}

    @cached_property
    def option_index(self) -> tuple[dict[tuple[bool, object], int], ...]:
        """For each column, the option index of each option key."""
        return tuple({option_key(o): i for i, o in enumerate(g.options)} for g in self.genes)

    @cached_property
    def group_of(self) -> NDArray[np.intp]:
        """Group of each column, shape (n_genes,)."""
        out = np.empty(len(self.genes), dtype=np.intp)
        for g, columns in enumerate(self.groups):
            out[list(columns)] = g
        return out

    @cached_property
    def never(self) -> tuple[bool, ...]:
        """For each column, whether no depth that is left can activate it (restricted spaces)."""
        return tuple(
            any(first >= len(self.genes[d].options) for d, first in conditions)
            for conditions in self.conditions
        )

    @cached_property
    def presence(self) -> tuple[tuple[tuple[Condition, ...], ...], ...]:
        """For each group, the conditions of which any one makes it present.

        Only the weakest are kept; of a group that is always present, one that is empty.
        """
        return tuple(_weakest([self.conditions[c] for c in g]) for g in self.groups)

    def may_be_absent(self, group: int) -> bool:
        """Say whether some depths leave out every gene of a group."""
        return () not in self.presence[group]

    @cached_property
    def free(self) -> tuple[int, ...]:
        """Groups that are search variables: two options or more, and active somewhere."""
        return tuple(
            g
            for g, columns in enumerate(self.groups)
            if len(self.genes[columns[0]].options) > 1 and not all(self.never[c] for c in columns)
        )

    @cached_property
    def gates(self) -> tuple[tuple[int, slice | NDArray[np.intp], NDArray[np.bool_]], ...]:
        """For each depth: its column, the columns it rules, and (n_options, n_columns) activity."""
        ruled: dict[int, list[tuple[int, int]]] = {}
        for c, conditions in enumerate(self.conditions):
            for depth, first in conditions:
                ruled.setdefault(depth, []).append((c, first))
        return tuple((d, *self._gate(d, pairs)) for d, pairs in ruled.items())

    def _gate(
        self, depth: int, pairs: list[tuple[int, int]]
    ) -> tuple[slice | NDArray[np.intp], NDArray[np.bool_]]:
        columns = np.array([c for c, _ in pairs], dtype=np.intp)
        first = np.array([f for _, f in pairs])
        active = np.arange(len(self.genes[depth].options))[:, None] >= first
        lo, hi = int(columns[0]), int(columns[-1]) + 1
        return (slice(lo, hi) if hi - lo == len(columns) else columns), active

    def canonical(self, full: Matrix) -> Matrix:
        """Mark the genes of dropped blocks absent; `full` has an option index everywhere."""
        out = full.copy()
        for depth, columns, active in self.gates:
            out[:, columns] = np.where(active[full[:, depth]], out[:, columns], np.int16(-1))
        return out


def _weakest(alternatives: Sequence[tuple[Condition, ...]]) -> tuple[tuple[Condition, ...], ...]:
    kept: list[tuple[Condition, ...]] = []
    for wanted in sorted(set(alternatives), key=lambda c: (len(c), c)):
        asked = dict(wanted)
        if not any(all(asked.get(d, -1) >= first for d, first in k) for k in kept):
            kept.append(wanted)
    return tuple(kept)


def build_layout(
    flats: Sequence[Flat],
    groups: tuple[tuple[int, ...], ...],
    only: Mapping[str, Sequence[Scalar]],
) -> Layout:
    """Lay out flat choices, with the options in `only` (names or globs) and no others left.

    Raises:
        SpaceError: `only` names an unknown gene or option, or leaves a gene without options;
            or a depth depends on itself.
    """
    options = _options_left(flats, groups, only)
    column = {f.name: c for c, f in enumerate(flats)}
    direct = [
        [(column[g.depth], _first_option(options[column[g.depth]], g)) for g in f.gates]
        for f in flats
    ]
    conditions = tuple(_closure(c, direct, flats) for c in range(len(flats)))
    genes = tuple(
        Gene(f.name, options[c], f.choice.ordered, f.choice.role, bool(conditions[c]))
        for c, f in enumerate(flats)
    )
    return Layout(genes, conditions, groups)


def narrowed(
    layout: Layout, options: Mapping[str, Sequence[Scalar]]
) -> dict[str, tuple[Scalar, ...]]:
    """Expand globs and check that the options wanted are still there.

    Raises:
        SpaceError: an unknown gene, or an option that the gene does not have (any more).
    """
    wanted_of: dict[str, tuple[Scalar, ...]] = {}
    problems: list[str] = []
    for pattern, wanted in options.items():
        for name in matching(pattern, list(layout.column), where="restrict"):
            problems += _unknown(name, wanted, layout.genes[layout.column[name]].options)
            wanted_of[name] = tuple(wanted)
    if problems:
        raise Problems("restricted options", problems)
    return wanted_of


def _options_left(
    flats: Sequence[Flat],
    groups: tuple[tuple[int, ...], ...],
    only: Mapping[str, Sequence[Scalar]],
) -> list[tuple[Scalar, ...]]:
    left = [f.choice.options for f in flats]
    names = [f.name for f in flats]
    tied = {c: g for g in groups for c in g}
    problems: list[str] = []
    for pattern, wanted in only.items():
        try:
            columns = [names.index(n) for n in matching(pattern, names, where="only")]
        except SpaceError as error:
            problems.append(str(error))
            continue
        for c in columns:
            problems += _unknown(names[c], wanted, flats[c].choice.options)
        keys = {option_key(o) for o in wanted}
        for t in {t for c in columns for t in tied[c]}:
            left[t] = tuple(o for o in left[t] if option_key(o) in keys)
    empty = [f"'{n}': no option is left" for n, o in zip(names, left, strict=True) if not o]
    problems = problems or empty
    if problems:
        raise Problems("restricted options", problems)
    return left


def _unknown(name: str, wanted: Sequence[Scalar], options: tuple[Scalar, ...]) -> list[str]:
    known = {option_key(o) for o in options}
    bad = [o for o in wanted if option_key(o) not in known]
    return [f"'{name}': {bad} not among its options {list(options)}"] if bad else []


def _first_option(options: tuple[Scalar, ...], gate: Gate) -> int:
    """Return the first option index whose value exceeds the rank; the number of options if none."""
    values = [int(o) for o in options]
    return next((i for i, v in enumerate(values) if v > gate.rank), len(values))


def _closure(
    column: int, direct: list[list[Condition]], flats: Sequence[Flat]
) -> tuple[Condition, ...]:
    """Gather the conditions of a gene and of its depths; drop those that always hold."""
    found: dict[int, int] = {}
    pending = list(direct[column])
    while pending:
        depth, first = pending.pop()
        if depth == column:
            line = f"depth '{flats[column].name}' is inside the repeat that it rules; move it out"
            raise Problems("declarations", [line])
        if depth not in found:
            pending += direct[depth]
        found[depth] = max(first, found.get(depth, 0))
    return tuple(sorted((d, first) for d, first in found.items() if first > 0))
