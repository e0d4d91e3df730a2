"""Choices that are not allowed together, as boolean tables over option indexes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import SpaceError
from hwnas.space.declarations import Scalar, option_key
from hwnas.space.genes import Flat
from hwnas.space.layout import Layout, Matrix
from hwnas.space.messages import Problems, is_glob, matching, nearest

MAX_TABLE = 1_000_000
Values: TypeAlias = Mapping[str, Scalar | Sequence[Scalar]]


@dataclass(frozen=True)
class Implies:
    """Whenever all of `given` hold, each gene of `then` has one of its values."""

    given: tuple[tuple[str, tuple[Scalar, ...]], ...]
    then: tuple[tuple[str, tuple[Scalar, ...]], ...]


@dataclass(frozen=True)
class AtMost:
    """The value of `low` never exceeds the value of `high`."""

    low: str
    high: str


@dataclass(frozen=True)
class Require:
    """The predicate holds for the values of the genes."""

    name: str
    genes: tuple[str, ...]
    predicate: Callable[..., bool]


Constraint: TypeAlias = Implies | AtMost | Require


def implies(given: Values, then: Values) -> Implies:
    """Whenever every gene of `given` has one of the values, every gene of `then` has one of its.

    A value may stand for a list of one. Names in `then` may be globs.
    """
    return Implies(_pairs(given), _pairs(then))


def at_most(low: str, high: str) -> AtMost:
    """Keep the value of `low` at or below that of `high`; `low` may be a glob, both are numeric."""
    return AtMost(low, high)


def require(name: str, genes: Sequence[str], predicate: Callable[..., bool]) -> Require:
    """Allow the combinations for which the predicate, called with the genes' values, is true.

    It is called once for each combination of options when the space is built, not afterwards.
    """
    return Require(name, tuple(genes), predicate)


@dataclass(frozen=True, eq=False)
class Table:
    """One constraint over groups of tied genes.

    It binds where all of `columns` are active. `allowed` has one axis for each of `groups`, with
    the group's option indexes.
    """

    label: str
    columns: tuple[int, ...]
    groups: tuple[int, ...]
    allowed: NDArray[np.bool_]

    def violated(self, layout: Layout, matrix: Matrix) -> NDArray[np.bool_]:
        """Say for each row of a canonical matrix whether it breaks the constraint, shape (n,)."""
        present = (matrix[:, list(self.columns)] >= 0).all(axis=1)
        index = tuple(matrix[:, self.column_of(layout, g)] for g in self.groups)
        return present & ~self.allowed[index]  # -1 reads the last option, and is masked

    def column_of(self, layout: Layout, group: int) -> int:
        """Return a column of this constraint whose value is the group's."""
        return next(c for c in self.columns if layout.group_of[c] == group)


def compile_tables(
    constraints: Sequence[Constraint], flats: Sequence[Flat], layout: Layout
) -> tuple[Table, ...]:
    """Turn constraints into tables over the options that the layout has left.

    Raises:
        SpaceError: an unknown gene or value, a table above a million combinations, or one that
            forbids everything; all problems at once.
    """
    declared = {f.name: f.choice.options for f in flats}
    tables: list[Table] = []
    problems: list[str] = []
    for constraint in constraints:
        try:
            for rule in _rules(constraint, declared):
                tables += _table(rule, layout)
        except SpaceError as error:
            problems.append(str(error))
    if problems:
        raise Problems("constraints", problems)
    return tuple(tables)


@dataclass(frozen=True)
class _Rule:
    label: str
    genes: tuple[str, ...]
    holds: Callable[..., bool]


def _rules(constraint: Constraint, declared: Mapping[str, tuple[Scalar, ...]]) -> Iterator[_Rule]:
    if isinstance(constraint, Implies):
        yield from _implies_rules(constraint, declared)
    elif isinstance(constraint, AtMost):
        yield from _at_most_rules(constraint, declared)
    else:
        label = f"require '{constraint.name}'"
        genes = tuple(_known(g, declared, label) for g in constraint.genes)
        if not genes or len(set(genes)) != len(genes):
            raise SpaceError(f"{label}: genes {list(genes)}; expected one or more, each once")
        yield _Rule(label, genes, constraint.predicate)


def _implies_rules(rule: Implies, declared: Mapping[str, tuple[Scalar, ...]]) -> Iterator[_Rule]:
    label = f"implies({_spelled(rule.given)}, {_spelled(rule.then)})"
    given = [(_known(n, declared, label), v) for n, v in rule.given]
    targets = [(n, v) for p, v in rule.then for n in matching(p, list(declared), where=label)]
    problems = [p for n, v in [*given, *targets] for p in _unknown_values(n, v, declared[n])]
    if not given or not targets or set(dict(given)) & set(dict(targets)):
        problems.append("expected genes on both sides, and none on both")
    if problems:
        raise SpaceError(f"{label}: {'; '.join(problems)}")
    premise = [{option_key(v) for v in values} for _, values in given]
    for name, values in targets:
        wanted = {option_key(v) for v in values}

        def holds(*got: Scalar, wanted: set[tuple[bool, object]] = wanted) -> bool:
            *left, last = map(option_key, got)
            return last in wanted or any(k not in p for k, p in zip(left, premise, strict=True))

        yield _Rule(label, (*(n for n, _ in given), name), holds)


def _at_most_rules(rule: AtMost, declared: Mapping[str, tuple[Scalar, ...]]) -> Iterator[_Rule]:
    label = f"at_most({rule.low}, {rule.high})"
    high = _known(rule.high, declared, label)
    for low in matching(rule.low, list(declared), where=label):
        for name in (low, high):
            if any(isinstance(o, str | bool) for o in declared[name]):
                raise SpaceError(f"{label}: '{name}' has {list(declared[name])}; expected numbers")
        if low == high:
            raise SpaceError(f"{label}: compares '{low}' with itself; expected two genes")
        yield _Rule(label, (low, high), lambda a, b: bool(a <= b))


def _table(rule: _Rule, layout: Layout) -> list[Table]:
    columns = tuple(layout.column[g] for g in rule.genes)
    if any(layout.never[c] for c in columns):
        return []  # a gene that is always absent; the constraint never binds
    groups = tuple(dict.fromkeys(int(layout.group_of[c]) for c in columns))
    allowed = _allowed(rule, columns, groups, layout)
    if allowed.all():
        return []
    if not allowed.any() and not any(layout.conditions[c] for c in columns):
        raise SpaceError(f"{rule.label}: forbids every combination of {', '.join(rule.genes)}")
    return [Table(rule.label, columns, groups, allowed)]


def _allowed(
    rule: _Rule, columns: tuple[int, ...], groups: tuple[int, ...], layout: Layout
) -> NDArray[np.bool_]:
    options = [layout.genes[layout.groups[g][0]].options for g in groups]
    shape = tuple(len(o) for o in options)
    if math.prod(shape) > MAX_TABLE:
        raise SpaceError(
            f"{rule.label}: {math.prod(shape):,} combinations of {', '.join(rule.genes)}; at most "
            f"{MAX_TABLE:,} are tabulated; split it into constraints over fewer genes"
        )
    axis = [groups.index(int(layout.group_of[c])) for c in columns]
    combinations = itertools.product(*options)
    answers = (bool(rule.holds(*(values[a] for a in axis))) for values in combinations)
    return np.fromiter(answers, dtype=np.bool_, count=math.prod(shape)).reshape(shape)


def _pairs(values: Values) -> tuple[tuple[str, tuple[Scalar, ...]], ...]:
    return tuple(
        (name, (v,) if isinstance(v, str | int | float) else tuple(v)) for name, v in values.items()
    )


def _spelled(pairs: tuple[tuple[str, tuple[Scalar, ...]], ...]) -> str:
    return "{" + ", ".join(f"{n}: {list(v)}" for n, v in pairs) + "}"


def _known(name: str, declared: Mapping[str, tuple[Scalar, ...]], label: str) -> str:
    if name in declared:
        return name
    if is_glob(name):
        raise SpaceError(f"{label}: '{name}' is a glob; name one gene here")
    raise SpaceError(f"{label}: no gene '{name}'{nearest(name, list(declared))}")


def _unknown_values(
    name: str, values: tuple[Scalar, ...], options: tuple[Scalar, ...]
) -> list[str]:
    known = {option_key(o) for o in options}
    bad = [v for v in values if option_key(v) not in known]
    if bad or not values:
        return [f"'{name}' takes {list(options)}, not {bad or 'an empty list'}"]
    return []
