"""NSGA-II against exhaustive search and against chance, as a page.

`python tests/search/compare.py docs/results/search.md`
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np

from cost_models.bitops import Bitops
from cost_models.toy_quality import ToyQuality
from hwnas.cost import CostContext
from hwnas.search import Objective, Problem, SearchResult, run_exhaustive, run_nsga2
from hwnas.search.loop import Run
from hwnas.search.random_search import RandomSearch
from search_spaces.toy import toy

_SPEC = importlib.util.spec_from_file_location("rough", Path(__file__).with_name("conftest.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
rough = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(rough)

REFERENCE = {"quality": 0.0, "latency": 25.0, "bitops": 250.0}
EVALUATIONS, SEEDS = 400, range(20)


def rough_problem() -> Problem:
    space = rough.rough_space()
    costs = [rough.RoughCost(space, name) for name in REFERENCE]
    return Problem(space, tuple(Objective.of(cost) for cost in costs))


def chance(problem: Problem, seed: int) -> SearchResult:
    """Random designs, beginning with the same reference designs as NSGA-II."""
    algorithm = RandomSearch(problem, seed=seed, references=True)
    return Run(
        problem, algorithm, max_evaluations=EVALUATIONS, reference_point=REFERENCE
    ).result()  # fmt: skip


def main(path: str) -> None:
    """Write the page."""
    space = toy()
    context = CostContext(space=space)
    small = Problem(space, (Objective.of(ToyQuality(context)), Objective.of(Bitops(context))))
    truth = {tuple(row) for row in run_exhaustive(small).front.values.tolist()}
    toy_rows = []
    for seed in range(8):
        front = run_nsga2(small, population=40, max_evaluations=2200, seed=seed).front
        found = {tuple(row) for row in front.values.tolist()}
        toy_rows.append(f"| {seed} | {len(found & truth)} of {len(truth)} | {found == truth} |")
    problem = rough_problem()
    ours = np.array(
        [
            run_nsga2(
                problem, population=40, max_evaluations=EVALUATIONS, seed=seed,
                reference_point=REFERENCE,
            ).hypervolume
            for seed in SEEDS
        ]
    )  # fmt: skip
    theirs = np.array([chance(problem, seed).hypervolume for seed in SEEDS])
    lines = [
        "# Search against exhaustive search and against chance", "",
        f"Made by `python tests/search/compare.py {path}`; the same comparisons are tests",
        "(`tests/search/test_nsga2.py`).", "",
        f"## `toy`: {space.size():,} designs, searched exhaustively", "",
        "NSGA-II, population 40, 2,200 evaluations: points of the true front that it has.", "",
        "| seed | points | same front |", "|---|---|---|", *toy_rows, "",
        f"## A table of {problem.space.size():,} designs, three objectives", "",
        f"Closed-form costs (`tests/search/conftest.py`), {EVALUATIONS} evaluations, {len(SEEDS)}",
        "seeds; hypervolume from "
        + ", ".join(f"{name} {value:g}" for name, value in REFERENCE.items()) + ". Random search",
        "begins with the same reference designs.", "",
        "| | mean | lowest | highest |", "|---|---|---|---|",
        f"| NSGA-II | {ours.mean():.5g} | {ours.min():.5g} | {ours.max():.5g} |",
        f"| random | {theirs.mean():.5g} | {theirs.min():.5g} | {theirs.max():.5g} |", "",
        f"NSGA-II is ahead on {int((ours > theirs).sum())} of {len(SEEDS)} seeds.",
    ]  # fmt: skip
    Path(path).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
