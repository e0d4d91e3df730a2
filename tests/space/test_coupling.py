"""Which variables bind one another: ties, depths, constraints."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.space import SearchSpace, at_most, link, ordinal, repeat
from hwnas.space.coupling import Coupling


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return SearchSpace(
        "bound",
        [
            ordinal("depth", (1, 2), role="depth"),
            repeat("blocks", 2, [ordinal("w", (2, 4)), ordinal("a", (2, 4))], depth="depth"),
            ordinal("most", (2, 4)),
        ],
        links=[link("blocks.*.a")],
        constraints=[at_most("blocks.1.w", "most")],
    )


def names(space: SearchSpace, positions: frozenset[int]) -> set[str]:
    return {space.variables[p].name for p in positions}


def test_constraints_and_terms_bring_the_depths_along(space: SearchSpace) -> None:
    coupling = Coupling(space)
    assert names(space, coupling.deciders) == {"depth"}
    assert [names(space, scope) for scope in coupling.constrained] == [
        {"depth", "blocks.1.w", "most"}
    ]
    assert names(space, coupling.variables_of(["blocks.0.w"])) == {"blocks.0.w"}
    assert names(space, coupling.variables_of(["blocks.1.a"])) == {"depth", "blocks.0.a"}


def test_presence_and_validity_are_those_of_the_space(space: SearchSpace) -> None:
    coupling = Coupling(space)
    every = np.array(np.meshgrid(*(range(n) for n in space.variable_sizes))).reshape(
        space.n_var, -1
    )
    allowed = coupling.allowed(every.T)
    for x, fine in zip(every.T, allowed, strict=True):
        repaired = space.repair(x[None])[0]
        assert fine == np.array_equal(repaired, x)
    shallow = np.zeros(space.n_var, dtype=np.int64)
    gone = {space.variables[p].name for p in np.flatnonzero(~coupling.present(shallow))}
    assert gone == {"blocks.1.w"}


def test_frozen_genes_are_no_variables(space: SearchSpace) -> None:
    coupling = Coupling(space.freeze({"depth": 2, "most": 4}))
    assert coupling.deciders == frozenset()
    assert len(coupling.variables_of(["depth", "most", "blocks.0.w"])) == 1
