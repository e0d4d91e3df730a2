"""What a search would do, before it does it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwnas.config import SearchConfig
from hwnas.cost import CostModel
from hwnas.search import executed_names, refinement_of
from hwnas.workflows.resolve import Resolved, evaluations_of, resolve

__all__ = ["Explanation", "explain"]

_TRIALS = 3  # timed designs; the first, which loads weights, is not among them


@dataclass(frozen=True)
class Explanation:
    """A resolved search with its size and expected time.

    `seconds_per_evaluation` is the median over a few random designs, by cost model; for one that is
    fitted during the search, it is that of the real evaluations that it learns from.
    """

    live: Resolved
    seconds_per_evaluation: dict[str, float]
    real_evaluations: dict[str, int]

    @property
    def expected_seconds(self) -> float:
        """Evaluations times seconds each, on one process; the final scoring not counted."""
        designs = evaluations_of(self.live)
        return sum(
            seconds * min(designs, self.real_evaluations.get(name, designs))
            for name, seconds in self.seconds_per_evaluation.items()
        )

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the user should know, weak device figures included."""
        device = self.live.device
        weak = sorted(device.weak_figures()) if device is not None else []
        figures = f"figures from memory: {', '.join(weak)}; check the data sheet"
        return (*self.live.remarks, *((f"{device.key}: {figures}",) if device and weak else ()))

    def rows(self) -> list[tuple[str, object]]:
        """Key and value, for a table."""
        space, config = self.live.space, self.live.config
        bound = "" if space.size_is_exact else "at most "
        return [
            ("space", f"{space.name}: {bound}{space.size():.3g} architectures"),
            ("search variables", space.n_var),
            ("device", self.live.device.key if self.live.device else "none"),
            ("algorithm", f"{config.algorithm}, population {config.population}{self._start()}"),
            ("seed", config.seed),
            ("evaluations", evaluations_of(self.live)),
            ("real evaluations", ", ".join(self._real()) or "none"),
            ("limits", ", ".join(map(str, self.live.problem.limits)) or "none"),
            ("final scoring", self.live.rescore.name if self.live.rescore else "none"),
            ("expected time", f"{self.expected_seconds:.0f} s and the final scoring"),
        ]

    def _start(self) -> str:
        return ", beginning with the exact front" if self.live.config.start == "exact" else ""

    def _real(self) -> list[str]:
        return [f"up to {n} to learn {name} from" for name, n in self.real_evaluations.items()]

    def objective_rows(self) -> list[dict[str, object]]:
        """One row a cost model."""
        objectives = {o.name for o in self.live.problem.objectives}
        return [
            {
                "cost": column.name,
                "unit": column.unit,
                "direction": column.direction,
                "role": "objective" if column.name in objectives else "observed",
                "ms per evaluation": self.seconds_per_evaluation[column.name] * 1e3,
            }
            for column in self.live.problem.columns
            if column.name in self.seconds_per_evaluation
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "config": self.live.config.model_dump(mode="json"),
            "facts": {key: value for key, value in self.rows()},
            "costs": self.objective_rows(),
            "expected_seconds": self.expected_seconds,
            "remarks": list(self.remarks),
        }


def explain(config: SearchConfig) -> Explanation:
    """Resolve a search and time each cost model on a few random designs.

    Raises:
        HwnasError: whatever would stop the search itself.
    """
    live = resolve(config)
    plans = {c.name: refinement_of(c.model) for c in live.problem.columns}
    executed = executed_names(live.problem)
    timed = {c.name: c.model for c in live.problem.columns if c.name in executed}
    timed |= {name: plan.real for name, plan in plans.items() if plan is not None}
    real = {name: plan.evaluations for name, plan in plans.items() if plan is not None}
    return Explanation(live, _timed(live, timed), real)


def _timed(live: Resolved, models: Mapping[str, CostModel]) -> dict[str, float]:
    archs = live.space.sample(np.random.default_rng(live.config.seed), _TRIALS + 1)
    found = {}
    for name, model in models.items():
        model.evaluate(archs[:1])
        times = []
        for index in range(1, len(archs)):
            start = time.perf_counter()
            model.evaluate(archs[index : index + 1])
            times.append(time.perf_counter() - start)
        found[name] = float(np.median(times))
    return found
