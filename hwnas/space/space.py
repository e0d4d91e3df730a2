"""The search space: what a stranger declares, and everything that is derived from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwnas.errors import ArchError, SpaceError
from hwnas.space import counting, encoding, enumeration, features, reference, repair, sampling
from hwnas.space.arch import Arch
from hwnas.space.archs import Archs
from hwnas.space.assembly import Parts, assemble
from hwnas.space.constraints import Constraint, Table
from hwnas.space.declarations import Declaration, Scalar
from hwnas.space.describing import describe, to_dict
from hwnas.space.genes import Gene
from hwnas.space.layout import Layout, Matrix, narrowed
from hwnas.space.links import Link
from hwnas.space.messages import gathered, nearest
from hwnas.space.slots import Slot, layers_of
from hwnas.space.spelling import broken, read_arch_json, read_row, read_rows


class SearchSpace:
    """All architectures that the declarations allow; a value, never changed.

    It needs choices only. `slots` or `lower` (called with an `Arch`) give the layers that analytic
    cost models count; `supernet` is a registered name, resolved by whoever asks for it; `extras` is
    carried along untouched for those two. `only` maps gene names or globs to the options that are
    left of them (`freeze` and `restrict` add to it). The name is part of every arch id; a
    restricted space keeps it, so that its archs are archs of the whole.

    Raises:
        SpaceError: the declarations, links, constraints, slots or `only` do not fit together.
    """

    def __init__(  # noqa: PLR0913 - one keyword for each optional part of a declaration
        self,
        name: str,
        declarations: Sequence[Declaration],
        *,
        constraints: Sequence[Constraint] = (),
        links: Sequence[Link] = (),
        slots: Sequence[Slot] | None = None,
        lower: Callable[[Arch], Any] | None = None,
        supernet: str | None = None,
        description: str = "",
        extras: Mapping[str, Any] | None = None,
        only: Mapping[str, Sequence[Scalar]] | None = None,
    ) -> None:
        if not name or not declarations:
            raise SpaceError(f"space '{name}': expected a name and at least one declaration")
        self._name = name
        self._parts = Parts(
            tuple(declarations), tuple(constraints), tuple(links), tuple(slots or ())
        )
        self._lower = lower
        self._supernet = supernet
        self._description = description
        self._extras = dict(extras or {})
        self._only = {k: tuple(v) for k, v in (only or {}).items()}
        self._assembly = assemble(name, self._parts, self._only)

    @property
    def _layout(self) -> Layout:
        return self._assembly.layout

    @property
    def _tables(self) -> tuple[Table, ...]:
        return self._assembly.tables

    # What it is

    @property
    def name(self) -> str:
        """Name of the space, part of every arch id."""
        return self._name

    @property
    def description(self) -> str:
        """One sentence for lists."""
        return self._description

    @property
    def genes(self) -> tuple[Gene, ...]:
        """All genes, in the order of the columns of `Archs.matrix`."""
        return self._layout.genes

    @property
    def variables(self) -> tuple[Gene, ...]:
        """The genes that name the search variables: not frozen, and the first of those tied."""
        return tuple(self.genes[c] for c in encoding.leaders(self._layout))

    @property
    def n_var(self) -> int:
        """Number of search variables."""
        return len(self._layout.free)

    @property
    def variable_sizes(self) -> NDArray[np.int64]:
        """Number of options of each search variable, shape (n_var,)."""
        return encoding.variable_sizes(self._layout)

    @property
    def variable_ordered(self) -> NDArray[np.bool_]:
        """Whether the options of each search variable are ordered, shape (n_var,)."""
        return np.array([v.ordered for v in self.variables], dtype=np.bool_)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The parts of the network; empty if the space has none."""
        return self._assembly.slots

    @property
    def supernet(self) -> str | None:
        """Registered name of the weight-sharing network, if any."""
        return self._supernet

    @property
    def extras(self) -> dict[str, Any]:
        """A copy of what the author handed over for `lower` and the supernet."""
        return dict(self._extras)

    def gene(self, name: str) -> Gene:
        """Return one gene.

        Raises:
            SpaceError: there is no such gene; names the nearest.
        """
        return self.genes[self.column(name)]

    def column(self, name: str) -> int:
        """Return the column of a gene in `Archs.matrix`.

        Raises:
            SpaceError: there is no such gene; names the nearest.
        """
        if name not in self._layout.column:
            hint = nearest(name, list(self._layout.column))
            raise SpaceError(f"space '{self.name}' has no gene '{name}'{hint}")
        return self._layout.column[name]

    def __repr__(self) -> str:
        return f"SearchSpace({self.name!r}, genes={len(self.genes)}, n_var={self.n_var})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for records: genes, links, constraints in words, size as text."""
        return to_dict(self, self._layout, self._parts.links, self._tables)

    def describe(self) -> str:
        """Return a few lines for people: size, search variables, constraints."""
        return describe(self, self._layout, self._parts.links, self._tables)

    # How many, which

    def size(self) -> int:
        """Count the architectures; an upper bound unless `size_is_exact`."""
        return self._count.number

    @property
    def size_is_exact(self) -> bool:
        """Whether `size` counts every architecture exactly."""
        return self._count.exact

    @cached_property
    def _count(self) -> counting.Count:
        return counting.count(self._layout, self._tables)

    def sample(self, rng: np.random.Generator, n: int) -> Archs:
        """Draw n archs; see `hwnas.space.sampling.sample` for the distribution."""
        return self._archs(encoding.decode(self._layout, self._sampled(rng, n)))

    def _sampled(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        return sampling.sample(self._layout, self._tables, rng, n)

    def enumerate(self, limit: int = 1_000_000) -> Iterator[Archs]:
        """Yield every architecture once, in chunks of a few thousand.

        Raises:
            SpaceError: there are more than `limit`.
        """
        if self.size_is_exact and self.size() > limit:
            raise SpaceError(
                f"space '{self.name}' has {self.size():,} architectures, and enumerate stops at "
                f"{limit:,}; raise the limit, freeze genes, or sample"
            )
        return map(self._archs, enumeration.chunks(self._layout, self._tables, limit))

    def neighbours(self, arch: Arch) -> Archs:
        """Return the archs one move away: a step of one ordered variable, or a change of another.

        Variables that a deeper network brings in take their last option.

        Raises:
            ArchError: the arch is not one of this space.
        """
        x = encoding.encode(self._layout, self.archs([arch]).matrix)
        matrix = encoding.decode(self._layout, enumeration.moves(self._layout, x[0]))
        found = self._archs(matrix[~self._broken(matrix)]).unique()
        return found.take([i for i, other in enumerate(found) if other != arch])

    def largest(self) -> Arch:
        """Return the arch with the last option everywhere, repaired if that is not allowed."""
        return self.decode(self.repair(self.variable_sizes[None] - 1))[0]

    def smallest(self) -> Arch:
        """Return the arch with the first option everywhere, repaired if that is not allowed."""
        return self.decode(self.repair(np.zeros((1, self.n_var), dtype=np.int64)))[0]

    def reference_designs(self) -> list[tuple[str, Arch]]:
        """Return labelled designs: largest, smallest, and uniform bit-widths at each resolution."""
        return reference.reference_designs(self)

    # One arch and many

    def validate(self, genes: Mapping[str, object]) -> list[str]:
        """Return everything that is wrong with a mapping of names to values; empty if nothing."""
        row, problems = read_row(self._layout, genes)
        return problems or broken(self._layout, self._tables, row)

    def arch(self, genes: Mapping[str, object]) -> Arch:
        """Return the canonical arch of a mapping of names to values.

        Genes of dropped blocks are left out. Genes with one option may be left unsaid, and tied
        genes are said once.

        Raises:
            ArchError: unknown genes, illegal options, missing genes or broken constraints, all of
                them, with the nearest names.
        """
        return self._archs(self._row(genes))[0]

    def _row(self, genes: Mapping[str, object]) -> Matrix:
        row, problems = read_row(self._layout, genes)
        problems = problems or broken(self._layout, self._tables, row)
        if problems:
            raise ArchError(gathered(f"not an architecture of '{self.name}'", problems))
        return row

    def arch_from_json(self, text: str) -> Arch:
        """Read what `Arch.to_json` wrote.

        Raises:
            ArchError: not such a JSON, of another space, or not an architecture of this one.
        """
        return self.arch(read_arch_json(text, self.name))

    def archs(self, archs: Sequence[Arch]) -> Archs:
        """Return archs as an `Archs` of this space.

        Raises:
            ArchError: an arch is not one of this space.
        """
        if isinstance(archs, Archs) and archs.space is self:
            return archs
        foreign = [a.space for a in archs if a.space != self.name]
        if foreign:
            raise ArchError(f"an architecture of '{foreign[0]}'; expected one of '{self.name}'")
        matrix, doubtful = read_rows(self._layout, [a.genes for a in archs])
        doubtful |= self._broken(matrix)
        for row in np.flatnonzero(doubtful):
            matrix[row] = self._row(archs[int(row)].genes)[0]
        return self._archs(matrix)

    def _archs(self, matrix: Matrix) -> Archs:
        return Archs(self, matrix)

    def _broken(self, matrix: Matrix) -> NDArray[np.bool_]:
        bad = np.zeros(matrix.shape[0], dtype=np.bool_)
        for table in self._tables:
            bad |= table.violated(self._layout, matrix)
        return bad

    # Numbers for search and for predictors

    def encode(self, archs: Sequence[Arch]) -> NDArray[np.int64]:
        """Return choice indices, shape (n, n_var); an absent variable has its last option.

        Raises:
            ArchError: an arch is not one of this space.
        """
        return encoding.encode(self._layout, self.archs(archs).matrix)

    def decode(self, x: ArrayLike) -> Archs:
        """Return the archs of choice indices of shape (n, n_var).

        Raises:
            ArchError: wrong shape, type or range, or a row breaks a constraint; `repair` mends it.
        """
        matrix = encoding.decode(self._layout, encoding.checked_indices(self._layout, x))
        bad = np.flatnonzero(self._broken(matrix))
        if len(bad):
            problems = broken(self._layout, self._tables, matrix[bad[:1]])
            title = f"{len(bad)} of {len(matrix)} rows break constraints; repair(x) mends them"
            raise ArchError(gathered(f"{title}; row {bad[0]}", problems))
        return self._archs(matrix)

    def repair(self, x: ArrayLike) -> NDArray[np.int64]:
        """Return choice indices that meet the constraints; see `hwnas.space.repair.repair`.

        Raises:
            ArchError: wrong shape, type or range.
            SpaceError: no valid combination was found in a counted number of tries.
        """
        checked = encoding.checked_indices(self._layout, x)
        return repair.repair(self._layout, self._tables, checked)

    def features(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """Return the predictors' matrix, shape (n, f); see `hwnas.space.features`.

        Raises:
            ArchError: an arch is not one of this space.
        """
        return features.features(self._layout, self.archs(archs).matrix)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Name of each column of `features`."""
        return features.feature_names(self._layout)

    # Smaller spaces, and layers

    def freeze(self, values: Mapping[str, Scalar]) -> SearchSpace:
        """Return the space with genes (names or globs) fixed to one value each.

        Raises:
            SpaceError: an unknown gene or value.
        """
        return self.restrict({name: [value] for name, value in values.items()})

    def restrict(
        self, options: Mapping[str, Sequence[Scalar]], *, description: str | None = None
    ) -> SearchSpace:
        """Return the space with some options left of genes (names or globs); tied genes follow.

        Raises:
            SpaceError: an unknown gene or option, or none left.
        """
        return SearchSpace(
            self.name,
            self._parts.declarations,
            constraints=self._parts.constraints,
            links=self._parts.links,
            slots=self._parts.slots,
            lower=self._lower,
            supernet=self.supernet,
            description=self.description if description is None else description,
            extras=self._extras,
            only={**self._only, **narrowed(self._layout, options)},
        )

    @property
    def whole(self) -> SearchSpace:
        """The space as it was declared, with every option; itself where nothing was taken away."""
        if not self._only:
            return self
        return SearchSpace(
            self.name,
            self._parts.declarations,
            constraints=self._parts.constraints,
            links=self._parts.links,
            slots=self._parts.slots,
            lower=self._lower,
            supernet=self.supernet,
            description=self.description,
            extras=self._extras,
        )

    def lower(self, arch: Arch) -> Any:
        """Return the layers of an arch: what the `lower` callable gives, or those of the slots.

        Raises:
            SpaceError: the space has neither.
        """
        if self._lower is not None:
            return self._lower(arch)
        if self._assembly.slots:
            return layers_of(self._assembly.slots, arch)
        raise SpaceError(
            f"space '{self.name}' has no layers: it was declared without slots and without lower; "
            "use cost models that need genes only, or give it one of the two"
        )
