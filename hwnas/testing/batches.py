"""Promises about answers: their form, and that nothing but the architecture decides a value."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hwnas.testing.cost_trial import CostTrial

__all__ = [
    "answer_is_the_callers",
    "batch_equals_singles",
    "equal_ones_cost_the_same",
    "none_cost_nothing",
    "order_is_kept",
    "plain_list_is_fine",
    "shape_problems",
    "twice_the_same",
]


def shape_problems(answer: object, n: int) -> Iterator[str]:
    """Yield what is wrong with the type and shape of an answer about `n` architectures."""
    if not isinstance(answer, np.ndarray):
        yield f"evaluate returns {type(answer).__name__}; expected a float64 array of shape ({n},)"
    elif answer.dtype != np.float64 or answer.shape != (n,):
        yield f"evaluate returns {answer.dtype} {answer.shape}; expected float64 ({n},)"


def none_cost_nothing(trial: CostTrial) -> Iterator[str]:
    """An empty batch gives an empty float64 array."""
    for what, empty in (("an empty Archs", trial.archs[:0]), ("an empty list", [])):
        yield from (f"{what}: {p}" for p in shape_problems(trial.model.evaluate(empty), 0))


def plain_list_is_fine(trial: CostTrial) -> Iterator[str]:
    """A list costs what the `Archs` of it cost."""
    if not trial.agree(trial.again(list(trial.few)), trial.values[:3]):
        yield "a plain list of architectures costs something else than the Archs of them"


def batch_equals_singles(trial: CostTrial) -> Iterator[str]:
    """A batch costs what its architectures cost one at a time."""
    alone = np.concatenate([trial.again(trial.archs[i : i + 1]) for i in range(len(trial.archs))])
    if not trial.agree(alone, trial.values):
        yield f"a batch differs from single ones: {_first_difference(trial, alone)}"


def order_is_kept(trial: CostTrial) -> Iterator[str]:
    """A shuffled batch gives the same values, shuffled."""
    order = np.random.default_rng(3).permutation(len(trial.archs))
    shuffled = trial.again(trial.archs.take(order))
    restored = np.empty_like(shuffled)
    restored[order] = shuffled
    if not trial.agree(restored, trial.values):
        yield f"another order gives other values: {_first_difference(trial, restored)}"


def equal_ones_cost_the_same(trial: CostTrial) -> Iterator[str]:
    """Equal architectures of one batch have equal values."""
    twins = trial.again(trial.archs.take([0, 1, 0, 1]))
    if not np.array_equal(twins[:2], twins[2:]):
        yield f"an architecture costs {twins[0]} and, later in the same batch, {twins[2]}"


def twice_the_same(trial: CostTrial) -> Iterator[str]:
    """The second answer is the first, to the last bit."""
    second = trial.again(trial.archs)
    if not np.array_equal(second, trial.values):
        yield f"asked twice, it differs: {_first_difference(trial, second)}"


def answer_is_the_callers(trial: CostTrial) -> Iterator[str]:
    """The returned array is not one that the model goes on using."""
    answer = trial.model.evaluate(trial.few)
    if not answer.flags.writeable:
        return
    before = answer.copy()
    answer += 1.0
    if not np.array_equal(trial.again(trial.few), before):
        yield "changing the returned array changes what the model answers next"


def _first_difference(trial: CostTrial, found: NDArray[np.float64]) -> str:
    if found.shape != trial.values.shape:
        return f"shape {found.shape}, before {trial.values.shape}"
    i = int(np.flatnonzero(found != trial.values)[0])
    return f"{trial.archs[i].id} costs {found[i]!r}, before {trial.values[i]!r}"
