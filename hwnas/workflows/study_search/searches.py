"""The searches of a study: by each proxy, by each count of the network, and by chance."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import CostContext, CostModel, Direction, build
from hwnas.cost.proxies import Counts, quality_sign
from hwnas.cost.remembering import Records
from hwnas.errors import ConfigError
from hwnas.search import Objective, Problem, run_nsga2
from hwnas.space import Arch, Archs, SearchSpace
from hwnas.workflows.study_memory import KeptCost
from hwnas.workflows.study_proxies.costs import Judged
from hwnas.workflows.study_search.options import ProxySearchOptions
from hwnas.workflows.study_search.result import CHANCE

__all__ = ["Picks", "Searches", "build_cost", "build_proxies", "count_names"]

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Picks:
    """The best design of a search within each budget, None where it has none."""

    archs: tuple[Arch | None, ...]
    seconds: float


class _AsQuality:
    """A cost as something to maximize: what quality is taken to grow with."""

    unit = "quality"
    direction: Direction = "max"

    def __init__(self, name: str, of: Callable[[Sequence[Arch]], Float]) -> None:
        self.name, self._of = f"quality by {name}", of

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        return self._of(archs)


class Searches:
    """Runs searches with equal seeds, evaluations and budgets, each once: `records` keep its end.

    Of a search that was cut off they have the values that it asked for, so that it goes the same
    way again without asking.

    Attributes:
        budgets: GBitOPs, ascending, evenly in their logarithm.
    """

    def __init__(self, context: CostContext, options: ProxySearchOptions, records: Records) -> None:
        self._space, self._options, self._records = context.space, options, records
        self._bitops, self._counts = build("bitops", context), Counts(context)
        ends = np.log(self._bitops.evaluate(_ends(self._space)))
        n = options.budgets
        self.budgets: Float = np.exp(ends[0] + (np.arange(n) + 0.5) / n * (ends[1] - ends[0]))

    def by_proxy(self, proxy: Judged) -> Picks:
        """By a cost model, as far as quality is taken to grow or to fall with it."""
        kept = KeptCost(proxy.model, self._space, self._records, f"value/{proxy.name}")
        sign = quality_sign(proxy.model)
        return self._search(proxy.name, lambda archs: sign * kept.evaluate(archs), kept)

    def by_count(self, name: str) -> Picks:
        """By a count of the network."""
        return self._search(name, lambda archs: self._counts.of(archs)[name])

    def by_chance(self) -> Picks:
        """Of random designs the one that uses each budget best."""
        rng = np.random.default_rng(self._options.seed)
        archs = self._space.sample(rng, self._options.max_evaluations)
        spent = self._bitops.evaluate(archs)
        return Picks(tuple(_best(archs, spent, spent, budget) for budget in self.budgets), 0.0)

    def _search(
        self, name: str, of: Callable[[Sequence[Arch]], Float], kept: KeptCost | None = None
    ) -> Picks:
        key = f"search/{name}"
        if key not in self._records:
            began = time.perf_counter()
            archs = self._run(name, of)
            seconds = time.perf_counter() - began + (kept.seconds_before if kept else 0.0)
            genes = [None if arch is None else dict(arch.genes) for arch in archs]
            self._records.add(key, {"picks": genes, "seconds": seconds})
        found = self._records[key]
        picks = [None if genes is None else self._space.arch(genes) for genes in found["picks"]]
        return Picks(tuple(picks), float(found["seconds"]))

    def _run(self, name: str, of: Callable[[Sequence[Arch]], Float]) -> list[Arch | None]:
        quality = _AsQuality(name, of)
        problem = Problem(self._space, (Objective.of(quality), Objective.of(self._bitops)))
        front = run_nsga2(
            problem, population=self._options.population, seed=self._options.seed,
            max_evaluations=min(self._options.max_evaluations, self._space.size()),
        ).front  # fmt: skip
        values, spent = front.values[:, 0], front.values[:, 1]
        return [_best(front.archs, values, spent, budget) for budget in self.budgets]


def count_names(context: CostContext) -> tuple[str, ...]:
    """The counts that are known of the space's networks."""
    return tuple(Counts(context).of(context.space.archs([context.space.largest()])))


def build_proxies(context: CostContext, options: ProxySearchOptions) -> list[Judged]:
    """The cost models to search by, each under a name of its own.

    Raises:
        ConfigError: a name is there twice, or is that of a baseline.
        PluginError: a cost model cannot be built.
    """
    taken = {*count_names(context), CHANCE}
    found = []
    for cost in options.costs:
        label, _, spec = cost.rpartition("=")
        built = build_cost(label or spec, spec, context, options)
        name = label or built.model.name
        if name in taken:
            raise ConfigError(f"{name} is there twice; give one another name, as LABEL={spec}")
        taken.add(name)
        found.append(Judged(name, spec, built.options, built.model, context))
    return found


def build_cost(label: str, spec: str, context: CostContext, options: ProxySearchOptions) -> Judged:
    """A cost model with the options that are given for its label, or for its spec."""
    given: Mapping[str, Mapping[str, object]] = options.options or {}
    own = given.get(label) or given.get(spec) or {}
    model: CostModel = build(spec, context, **own)
    return Judged(model.name, spec, own, model, context)


def _ends(space: SearchSpace) -> Archs:
    return Archs.of(space, [space.smallest(), space.largest()])


def _best(archs: Archs, quality: Float, spent: Float, budget: float) -> Arch | None:
    within = np.flatnonzero(spent <= budget)
    return archs[int(within[quality[within].argmax()])] if len(within) else None
