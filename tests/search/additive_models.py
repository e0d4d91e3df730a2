"""Made-up cost models that are sums of terms, for the tests of exact search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hwnas.search import Limit, Objective, Problem
from hwnas.space import Arch, Archs, SearchSpace, link, ordinal, repeat, require


class Terms:
    """The sum of one random number for each combination of each term's genes; absent adds none."""

    unit = "points"

    def __init__(
        self, space: SearchSpace, name: str, terms: Sequence[tuple[str, ...]], *, seed: int,
        direction: str = "min",
    ) -> None:  # fmt: skip
        self.name, self.direction = name, direction
        self._space, self._genes = space, [tuple(term) for term in terms]
        rng = np.random.default_rng(seed)
        self._tables = [
            rng.random([len(space.gene(gene).options) for gene in term]) for term in self._genes
        ]

    def terms(self) -> list[tuple[str, ...]]:
        return self._genes

    def evaluate(self, archs: Sequence[Arch]) -> np.ndarray:
        matrix = Archs.of(self._space, archs).matrix
        total = np.full(len(matrix), 0.5)
        for genes, table in zip(self._genes, self._tables, strict=True):
            columns = matrix[:, [self._space.column(gene) for gene in genes]]
            total += np.where((columns >= 0).all(axis=1), table[tuple(columns.T)], 0.0)
        return total


def small_space(**options: object) -> SearchSpace:
    """2 resolutions, depths 1 to 3, and two genes a block."""
    block = [ordinal("width", (1, 2, 3), role="width"), ordinal("bits", (2, 4, 8), role="bits")]
    return SearchSpace(
        "sums",
        [
            ordinal("resolution", (64, 128), role="resolution"),
            ordinal("depth", (1, 2, 3), role="depth"),
            repeat("blocks", 3, block, depth="depth"),
        ],
        **options,  # type: ignore[arg-type]
    )


def bound_space() -> SearchSpace:
    """The same with tied widths, and neighbors whose bits may not differ by much."""
    return small_space(
        links=[link("blocks.*.width")],
        constraints=[
            require(
                f"bits of {i} near {i + 1}",
                [f"blocks.{i}.bits", f"blocks.{i + 1}.bits"],
                lambda a, b: max(a, b) <= 2 * min(a, b),
            )
            for i in range(2)
        ],
    )


def block_terms(*shared: str) -> list[tuple[str, ...]]:
    """Width and bits of a block together, with `shared` genes; bits alone as well."""
    return [
        term
        for i in range(3)
        for term in ((*shared, f"blocks.{i}.width", f"blocks.{i}.bits"), (f"blocks.{i}.bits",))
    ]


def problem(space: SearchSpace, *limits: str, objectives: int = 2) -> Problem:
    """A score to maximize, a cost, and a second cost that limits alone may name."""
    score = Terms(space, "score", [*block_terms(), ("resolution",)], seed=1, direction="max")
    cost = Terms(space, "cost", block_terms("resolution"), seed=2)
    size = Terms(space, "size", block_terms(), seed=3)
    models = tuple(Objective.of(model) for model in (score, cost, size))
    parsed = tuple(Limit.parse(text) for text in limits)
    return Problem(space, models[:objectives], parsed, models[objectives:])


def everything(space: SearchSpace) -> Archs:
    """All architectures of a space."""
    return Archs(space, np.concatenate([chunk.matrix for chunk in space.enumerate()]))
