"""Cost models that are sums over parts, as tables: groups of options and what each option adds.

A group is a set of search variables that share a term or a constraint; its options are the
combinations of their values. Variables that couple too many others to be put into one group, the
depths among them, are `shared`: each combination of theirs has its own tables.

Tables are made by changing one group of an architecture at a time, so that a model needs nothing
but `evaluate`. Whether the sums are right is tried on random architectures.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hwnas.cost.model import CostModel
from hwnas.errors import CostError, SpaceError
from hwnas.space import SearchSpace
from hwnas.space.coupling import Coupling

__all__ = ["Additive", "AdditiveTables", "Group", "Tables", "terms_of"]

Float = NDArray[np.float64]
Index = NDArray[np.int64]
_TRIED = 64  # random archs on which the sums are compared with the models


@runtime_checkable
class Additive(Protocol):
    """A cost model whose value is a sum of terms that depend on a few genes each.

    A model without it is taken to have one term for each slot of the space, or for each gene where
    there are no slots.
    """

    def terms(self) -> Sequence[tuple[str, ...]]:
        """Return the names of the genes of each term."""
        ...


def terms_of(model: CostModel, space: SearchSpace) -> tuple[tuple[str, ...], ...]:
    """Return the genes of each term of a model: its own, the slots', or one gene each."""
    if isinstance(model, Additive):
        return tuple(tuple(term) for term in model.terms())
    if space.slots:
        return tuple(slot.genes for slot in space.slots)
    return tuple((gene.name,) for gene in space.genes)


@dataclass(frozen=True, eq=False)
class Group:
    """One choice among several: search variables and what each combination of theirs adds.

    Attributes:
        variables: Positions of the variables, ascending.
        options: Their choice indices, shape (n_options, n_variables).
        values: What an option adds to each model, shape (n_options, n_models).
    """

    variables: tuple[int, ...]
    options: Index
    values: Float


@dataclass(frozen=True, eq=False)
class Tables:
    """One combination of the shared variables.

    The value of an arch is `constant` (n_models,) plus what its option of each group adds. `base`
    (n_var,) has the choice indices that no group sets.
    """

    shared: Mapping[str, object]
    base: Index
    constant: Float
    groups: tuple[Group, ...]

    def x(self, chosen: Sequence[int]) -> Index:
        """Choice indices (n_var,) of the arch with one option of each group."""
        row = self.base.copy()
        for group, option in zip(self.groups, chosen, strict=True):
            row[list(group.variables)] = group.options[option]
        return row


class AdditiveTables:
    """Tables of several models over one space, made when they are first asked for.

    Args:
        space: The space that the models were built for. Freeze what is not to be chosen.
        models: Their values are the columns of every table.
        largest_group: Options above which variables are shared rather than grouped.
        most_combinations: Combinations of shared variables above which the space is refused.
        tolerance: How far the sums may be off, as a share of a model's range over random archs.

    Raises:
        SpaceError: too many combinations of shared variables; says which to freeze.
    """

    def __init__(
        self,
        space: SearchSpace,
        models: Sequence[CostModel],
        *,
        largest_group: int = 4096,
        most_combinations: int = 512,
        tolerance: float = 1e-6,
    ) -> None:
        self.space, self.models = space, tuple(models)
        self._coupling = Coupling(space)
        self._tolerance = tolerance
        self._sizes = space.variable_sizes
        terms = {t: None for model in self.models for t in terms_of(model, space)}
        self._terms = tuple(self._coupling.variables_of(term) for term in terms)
        self._shared = self._chosen_shared(largest_group)
        self._known: dict[tuple[object, ...], Group] = {}
        number = math.prod(int(self._sizes[v]) for v in self._shared)
        if number > most_combinations:
            sizes = ", ".join(f"{space.variables[v].name} ({self._sizes[v]})" for v in self._shared)
            raise SpaceError(
                f"{space.name}: {number:,} combinations of variables that change every table, and "
                f"at most {most_combinations:,} are gone through; freeze some of them "
                f"(space.freeze), or raise most_combinations: {sizes}"
            )

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of the variables of which each combination has tables of its own."""
        return tuple(self.space.variables[v].name for v in self._shared)

    def each(self) -> list[Tables]:
        """Return the tables of every combination of the shared variables that is allowed.

        Raises:
            CostError: a model is not the sum of its terms, on random archs.
        """
        found = []
        for values in itertools.product(*(range(int(self._sizes[v])) for v in self._shared)):
            base = self._base(values)
            if base is not None:
                found.append(self._tables(base))
        self._check(found)
        return found

    def _chosen_shared(self, largest: int) -> tuple[int, ...]:
        """Depths, then whatever touches the most terms until every group is small enough."""
        shared = set(self._coupling.deciders)
        while True:
            big = [g for g in self._grouped(shared) if self._options(g) > largest]
            if not big:
                return tuple(sorted(shared))
            touched = {v: sum(v in s for s in self._scopes) for group in big for v in group}
            most = max(touched.values())
            tied = sorted(v for v, times in touched.items() if times == most)
            shared.add(min(tied, key=lambda v: self._all_options(shared | {v})))

    def _options(self, group: frozenset[int]) -> int:
        return math.prod(int(self._sizes[v]) for v in group)

    def _all_options(self, shared: set[int]) -> int:
        return sum(map(self._options, self._grouped(shared)))

    @property
    def _scopes(self) -> tuple[frozenset[int], ...]:
        return (*self._terms, *self._coupling.constrained)

    def _grouped(self, shared: set[int]) -> list[frozenset[int]]:
        """Join variables that are in one scope, the shared ones left out."""
        groups: list[frozenset[int]] = []
        for scope in self._scopes:
            own = scope - shared
            touching = [group for group in groups if group & own]
            groups = [group for group in groups if not group & own]
            if own:
                groups.append(own.union(*touching))
        return sorted(groups, key=min)

    def _base(self, values: Sequence[int]) -> Index | None:
        """A valid arch with these shared values; None where constraints exclude them."""
        start = np.zeros(len(self._sizes), dtype=np.int64)
        start[list(self._shared)] = values
        if self._coupling.allowed(start[None])[0]:
            return start
        genes = [self.space.variables[v] for v in self._shared]
        frozen = {gene.name: gene.options[i] for gene, i in zip(genes, values, strict=True)}
        try:
            arch = self.space.freeze(frozen).smallest()
        except SpaceError:
            return None
        x = self.space.encode([arch])[0]
        x[list(self._shared)] = values
        return x if self._coupling.allowed(x[None])[0] else None

    def _tables(self, base: Index) -> Tables:
        present = self._coupling.present(base)
        groups: list[Group] = []
        for members in self._grouped(set(self._shared)):
            active = tuple(sorted(v for v in members if present[v]))
            if active:
                groups.append(self._group(base, members, active))
        genes = [(self.space.variables[v], int(base[v])) for v in self._shared]
        shared = {gene.name: gene.options[option] for gene, option in genes}
        constant = self._evaluated(base[None])[0] - _offset(base, groups)
        return Tables(shared, base, constant, tuple(groups))

    def _group(self, base: Index, members: frozenset[int], active: tuple[int, ...]) -> Group:
        """The table of a group; one that was made for equal neighbors is used again."""
        near = {v for s in self._scopes if s & members for v in s} & set(self._shared)
        key = (active, *((v, int(base[v])) for v in sorted(near)))
        if key not in self._known:
            options = np.array(
                list(itertools.product(*(range(int(self._sizes[v])) for v in active))),
                dtype=np.int64,
            ).reshape(-1, len(active))
            x = np.repeat(base[None], len(options), axis=0)
            x[:, list(active)] = options
            allowed = self._coupling.allowed(x)
            values = self._evaluated(x[allowed])
            self._known[key] = Group(active, options[allowed], values - values.min(axis=0))
        return self._known[key]

    def _evaluated(self, x: Index) -> Float:
        archs = self.space.decode(x)
        return np.stack([model.evaluate(archs) for model in self.models], axis=1)

    def _check(self, found: Sequence[Tables]) -> None:
        """Compare sums with models on random options of random combinations."""
        rng = np.random.default_rng(0)
        picks = [found[int(i)] for i in rng.integers(len(found), size=_TRIED if found else 0)]
        chosen = [[int(rng.integers(len(g.options))) for g in t.groups] for t in picks]
        if not picks:
            return
        x = np.stack([t.x(c) for t, c in zip(picks, chosen, strict=True)])
        sums = np.stack([
            t.constant + sum((g.values[o] for g, o in zip(t.groups, c, strict=True)), np.zeros(1))
            for t, c in zip(picks, chosen, strict=True)
        ])  # fmt: skip
        values = self._evaluated(x)
        off = np.abs(sums - values).max(axis=0)
        scale = np.maximum(np.ptp(values, axis=0), 1e-6 * np.abs(values).max(axis=0))
        for model, error, extent in zip(self.models, off, scale, strict=True):
            if error > self._tolerance * extent:
                raise CostError(
                    f"{model.name} is no sum over the groups of {self.space.name}: sums are off by "
                    f"up to {error:.3g} {model.unit} where values differ by {extent:.3g} "
                    f"({_TRIED} random archs); exact search needs an additive model such as bitops "
                    "or sensitivity, or a larger tolerance"
                )


def _offset(base: Index, groups: Sequence[Group]) -> Float:
    """What the options that `base` has already add."""
    total: Float = np.zeros(1)
    for group in groups:
        row = (group.options == base[list(group.variables)]).all(axis=1)
        total = total + group.values[int(row.argmax())]
    return total
