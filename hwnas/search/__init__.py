"""Searching a space: problems, NSGA-II and its baselines, fronts.

pymoo is imported when the first NSGA-II run starts, not before.
"""

from hwnas.search.algorithm import Algorithm, Told
from hwnas.search.designs import Column, Design, Designs
from hwnas.search.dominance import non_dominated
from hwnas.search.evaluator import Evaluator
from hwnas.search.exact import ExactResult, ExactSearch, run_exact
from hwnas.search.exact_choice import Certificate
from hwnas.search.exact_gap import FrontGap, best_within, front_gap
from hwnas.search.executor import Executor, SerialExecutor
from hwnas.search.failures import FailurePolicy
from hwnas.search.fitting import fitted_names, with_fitted
from hwnas.search.front import ParetoFront
from hwnas.search.hypervolume import hypervolume
from hwnas.search.limit import Limit
from hwnas.search.loop import Run, executed_names
from hwnas.search.objective import Objective
from hwnas.search.outcomes import Outcomes
from hwnas.search.problem import Problem
from hwnas.search.processes import ProcessExecutor
from hwnas.search.refining import refinement_of
from hwnas.search.result import HistoryPoint, Progress, SearchResult
from hwnas.search.runs import run_exhaustive, run_nsga2, run_random
from hwnas.search.worker import WorkerSpec, Workplace

__all__ = [
    "Algorithm",
    "Certificate",
    "Column",
    "Design",
    "Designs",
    "Evaluator",
    "ExactResult",
    "ExactSearch",
    "Executor",
    "FailurePolicy",
    "FrontGap",
    "HistoryPoint",
    "Limit",
    "Objective",
    "Outcomes",
    "ParetoFront",
    "Problem",
    "ProcessExecutor",
    "Progress",
    "Run",
    "SearchResult",
    "SerialExecutor",
    "Told",
    "WorkerSpec",
    "Workplace",
    "best_within",
    "executed_names",
    "fitted_names",
    "front_gap",
    "hypervolume",
    "non_dominated",
    "refinement_of",
    "run_exact",
    "run_exhaustive",
    "run_nsga2",
    "run_random",
    "with_fitted",
]
