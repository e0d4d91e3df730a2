"""The networks that sensitivities are checked on: single groups lowered, plans at an optimum."""

from __future__ import annotations

import numpy as np

from hwnas.cost import CostModel
from hwnas.cost.matrices import Matrices, own_genes
from hwnas.cost.remembering import Records
from hwnas.errors import CostError
from hwnas.search import Objective, Problem
from hwnas.search.operators import Seen, mutate
from hwnas.space import Arch, Archs, SearchSpace
from hwnas.space.coupling import Coupling
from hwnas.workflows.exact.start import exact_search
from hwnas.workflows.watch import Watch

__all__ = ["lowered_groups", "middle_optimum", "plans_around"]

_TRIES = 50
_MOST_CHANGES = 5  # powers of two: 1 to 16 variables of the optimum
_OPTIMUM = "optimum"


def middle_optimum(
    space: SearchSpace, model: CostModel, bitops: CostModel, records: Records, watch: Watch
) -> tuple[Archs, float]:
    """The exact optimum at a middle budget, as one arch, and the budget; solved once.

    Raises:
        CostError: a cost is no sum.
    """
    if _OPTIMUM not in records:
        watch.begin("solving for the optimum", None)
        search = exact_search(Problem(space, (Objective.of(model), Objective.of(bitops))))
        (budget,) = search.spread([0.5])
        (arch,) = search.within([budget]).archs[:1]
        records.add(_OPTIMUM, {"genes": dict(arch.genes), "budget": budget})
    found = records[_OPTIMUM]
    return Archs.of(space, [space.arch(found["genes"])]), float(found["budget"])


def lowered_groups(space: SearchSpace, model: CostModel, top: float) -> dict[str, Arch]:
    """The largest network with one group at its lowest options, most error first."""
    if not isinstance(model, Matrices):
        raise CostError(f"{model.name} has no matrices: name a cost model such as sensitivity")
    coupling = Coupling(space)
    start = space.encode([space.largest()])
    found = {}
    for group in model.matrices():
        x = start.copy()
        for gene in own_genes(group):
            every = coupling.variables_of([gene])
            x[0, sorted((every - coupling.deciders) or every)] = 0
        arch = space.decode(space.repair(x))[0]
        if arch.id != space.largest().id:
            found[str(group["name"])] = arch
    if not found:
        raise CostError(f"{space.name}: no group of {model.name} has a lower option; free some")
    errors = model.evaluate(list(found.values()))
    most = [list(found)[i] for i in np.argsort(-errors, kind="stable")]
    return {name: found[name] for name in most[: max(2, round(top * len(most)))]}


def plans_around(space: SearchSpace, optimum: Archs, plans: int, seed: int) -> Archs:
    """The optimum and different plans with 1, 2, 4, 8 or 16 of its variables changed."""
    rng, seen = np.random.default_rng(seed), Seen()
    seen.new(optimum, 1)
    x, found = space.encode(optimum), list(optimum)
    for turn in range(_TRIES * plans):
        if len(found) >= plans:
            break
        rate = 2.0 ** (turn % _MOST_CHANGES)
        moved = mutate(x, space.variable_sizes, space.variable_ordered, rng, rate=rate)
        arch = space.decode(space.repair(moved))
        if len(seen.new(arch, 1)):
            found.append(arch[0])
    return Archs.of(space, found)
