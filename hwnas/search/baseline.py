"""pymoo as one would use it without this package, to measure against.

The defaults that pymoo's documentation gives for integer variables: population 100, integer random
sampling, simulated binary crossover and polynomial mutation with rounding, duplicates eliminated;
and one call of each cost model for each architecture.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.search.problem import Problem
from hwnas.search.pymoo_quiet import quiet

__all__ = ["BaselineResult", "pymoo_default_one_at_a_time"]


@dataclass(frozen=True, slots=True, eq=False)
class BaselineResult:
    """`f` (n, n_obj) is the final front, minimized; `seconds` is the wall clock of the search."""

    f: NDArray[np.float64]
    evaluations: int
    seconds: float


def pymoo_default_one_at_a_time(
    problem: Problem, *, max_evaluations: int, seed: int
) -> BaselineResult:
    """Run `pymoo.optimize.minimize` on the problem's objectives and limits.

    Rows that break a constraint of the space are repaired before they are priced, inside the
    evaluation, since pymoo's own operators know nothing of them.
    """
    quiet()
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    class OneAtATime(ElementwiseProblem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(
                n_var=problem.space.n_var,
                n_obj=len(problem.objectives),
                n_ieq_constr=len(problem.limits),
                xl=np.zeros(problem.space.n_var),
                xu=problem.space.variable_sizes - 1,
                vtype=int,
            )

        def _evaluate(self, x: NDArray[Any], out: dict[str, Any], **_: Any) -> None:
            space = problem.space
            archs = space.decode(space.repair(x.astype(np.int64)[None]))
            values = np.array([[c.model.evaluate(archs)[0] for c in problem.columns]])
            out["F"] = problem.minimized(values)[0]
            if problem.limits:
                out["G"] = problem.constraints(values, values, values)[0]

    algorithm = NSGA2(
        sampling=IntegerRandomSampling(),
        crossover=SBX(vtype=float, repair=RoundingRepair()),
        mutation=PM(vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    start = time.perf_counter()
    found = minimize(OneAtATime(), algorithm, ("n_eval", max_evaluations), seed=seed)
    seconds = time.perf_counter() - start
    f = np.empty((0, len(problem.objectives))) if found.F is None else np.atleast_2d(found.F)
    return BaselineResult(f, int(found.algorithm.evaluator.n_eval), seconds)
