"""What every cost model must keep, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hwnas.cost import Breakdown, CostContext, CostModel, Estimating, Fittable
from hwnas.testing.batches import (
    answer_is_the_callers,
    batch_equals_singles,
    equal_ones_cost_the_same,
    none_cost_nothing,
    order_is_kept,
    plain_list_is_fine,
    shape_problems,
    twice_the_same,
)
from hwnas.testing.cost_trial import CostTrial, cost_trial
from hwnas.testing.estimates import estimate_holds_value
from hwnas.testing.fitting import saved_is_loaded
from hwnas.testing.manners import (
    arguments_untouched,
    global_state_untouched,
    strangers_refused,
    weights_untouched,
)
from hwnas.testing.monotone import more_bits_never_less
from hwnas.testing.promises import Promise, broken

__all__ = ["COST_PROMISES", "check_cost_model"]


def check_cost_model(
    model: CostModel,
    context: CostContext,
    *,
    n: int = 12,
    rng: np.random.Generator | None = None,
    rtol: float = 1e-9,
) -> list[str]:
    """Return every promise that `model` breaks, one sentence each; empty where all are kept.

    Tried on the smallest and largest architecture of the context's space and on `n` random ones
    drawn with `rng` (a fixed generator by default). Promises: name, unit and direction are
    declared; answers are finite float64 of shape (n,), also for none and for a plain list; a batch
    costs what the single ones cost, in any order, within `rtol`; asking twice gives the same bits;
    arguments, weights and global state are left alone; foreign architectures are refused. Where
    the model declares them: an interval around the value, parts that add up, `monotone_in_bits`,
    and a saved model that is loaded bit-equal (a `Fittable` must be fitted already).
    """
    undeclared = _DECLARED.broken(model)
    if undeclared:
        return undeclared
    try:
        trial = cost_trial(model, context, n=n, rng=rng, rtol=rtol)
    except Exception as error:
        return [f"evaluate: raises {type(error).__name__}: {error}"]
    # A wrong shape would break the other promises too, with sentences that mislead.
    return _ANSWERS.broken(trial) or broken(COST_PROMISES[1:], trial)


def _is_declared(model: Any) -> Iterator[str]:
    for attribute in ("name", "unit"):
        text = getattr(model, attribute, None)
        if not isinstance(text, str) or not text.strip():
            yield f"{attribute} is {text!r}; expected a text that is not empty"
    direction = getattr(model, "direction", None)
    if direction not in ("min", "max"):
        yield f"direction is {direction!r}; expected 'min' or 'max'"
    if not callable(getattr(model, "evaluate", None)):
        yield "there is no method evaluate(archs)"


def _answers(trial: CostTrial) -> Iterator[str]:
    yield from shape_problems(trial.first, len(trial.archs))
    if isinstance(trial.first, np.ndarray) and not np.isfinite(trial.values).all():
        first = int(np.flatnonzero(~np.isfinite(trial.values))[0])
        yield f"{trial.archs[first].id} costs {trial.values[first]}; expected a finite number"


def _parts_add_up(trial: CostTrial) -> Iterator[str]:
    if not isinstance(trial.model, Breakdown):
        return
    for arch, value in zip(trial.archs[:4], trial.values, strict=False):
        parts = trial.model.breakdown(arch)
        total = sum(parts.values())
        if abs(total - value) > 1e-9 * max(abs(value), 1e-300):
            yield f"the parts of {arch.id} add up to {total}, and it costs {value}"


def _interval(trial: CostTrial) -> Iterator[str]:
    if isinstance(trial.model, Estimating):
        yield from estimate_holds_value(trial)


def _monotone(trial: CostTrial) -> Iterator[str]:
    if getattr(trial.model, "monotone_in_bits", False):
        yield from more_bits_never_less(trial)


def _saved(trial: CostTrial) -> Iterator[str]:
    if isinstance(trial.model, Fittable):
        yield from saved_is_loaded(trial)


_DECLARED: Promise[Any] = Promise("declaration", _is_declared)
_ANSWERS: Promise[CostTrial] = Promise("answer", _answers)
COST_PROMISES: tuple[Promise[CostTrial], ...] = (
    _ANSWERS,
    Promise("empty batch", none_cost_nothing),
    Promise("plain list", plain_list_is_fine),
    Promise("batch equals singles", batch_equals_singles),
    Promise("any order", order_is_kept),
    Promise("equal architectures cost the same", equal_ones_cost_the_same),
    Promise("twice the same", twice_the_same),
    Promise("answers are the caller's own", answer_is_the_callers),
    Promise("arguments untouched", arguments_untouched),
    Promise("global state untouched", global_state_untouched),
    Promise("weights untouched", weights_untouched),
    Promise("strangers refused", strangers_refused),
    Promise("interval", _interval),
    Promise("parts add up", _parts_add_up),
    Promise("monotone in bits", _monotone),
    Promise("save and load", _saved),
)
