"""What every cost model must keep, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hwnas.cost import Breakdown, CostContext, CostModel, Estimating, Fittable
from hwnas.errors import HwnasError
from hwnas.space import Arch
from hwnas.testing.cost_trial import CostTrial, cost_trial
from hwnas.testing.estimates import estimate_holds_value
from hwnas.testing.fitting import saved_is_loaded
from hwnas.testing.global_state import changes
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
    arguments and global state are left alone; foreign architectures are refused. Where the model
    declares them: an interval around the value, parts that add up, `monotone_in_bits`, and a saved
    model that is loaded bit-equal (a `Fittable` must be fitted already).
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
    yield from _shape_problems(trial.first, len(trial.archs))
    if isinstance(trial.first, np.ndarray) and not np.isfinite(trial.values).all():
        first = int(np.flatnonzero(~np.isfinite(trial.values))[0])
        yield f"{trial.archs[first].id} costs {trial.values[first]}; expected a finite number"


def _shape_problems(answer: object, n: int) -> Iterator[str]:
    if not isinstance(answer, np.ndarray):
        yield f"evaluate returns {type(answer).__name__}; expected a float64 array of shape ({n},)"
    elif answer.dtype != np.float64 or answer.shape != (n,):
        yield f"evaluate returns {answer.dtype} {answer.shape}; expected float64 ({n},)"


def _none_cost_nothing(trial: CostTrial) -> Iterator[str]:
    for what, empty in (("an empty Archs", trial.archs[:0]), ("an empty list", [])):
        yield from (f"{what}: {p}" for p in _shape_problems(trial.model.evaluate(empty), 0))


def _plain_list(trial: CostTrial) -> Iterator[str]:
    if not trial.agree(trial.again(list(trial.few)), trial.values[:3]):
        yield "a plain list of architectures costs something else than the Archs of them"


def _singles(trial: CostTrial) -> Iterator[str]:
    alone = np.concatenate([trial.again(trial.archs[i : i + 1]) for i in range(len(trial.archs))])
    if not trial.agree(alone, trial.values):
        yield f"a batch differs from single ones: {_first_difference(trial, alone)}"


def _any_order(trial: CostTrial) -> Iterator[str]:
    order = np.random.default_rng(3).permutation(len(trial.archs))
    shuffled = trial.again(trial.archs.take(order))
    restored = np.empty_like(shuffled)
    restored[order] = shuffled
    if not trial.agree(restored, trial.values):
        yield f"another order gives other values: {_first_difference(trial, restored)}"


def _repeated(trial: CostTrial) -> Iterator[str]:
    twins = trial.again(trial.archs.take([0, 1, 0, 1]))
    if not np.array_equal(twins[:2], twins[2:]):
        yield f"an architecture costs {twins[0]} and, later in the same batch, {twins[2]}"


def _twice(trial: CostTrial) -> Iterator[str]:
    second = trial.again(trial.archs)
    if not np.array_equal(second, trial.values):
        yield f"asked twice, it differs: {_first_difference(trial, second)}"


def _own_answer(trial: CostTrial) -> Iterator[str]:
    answer = trial.model.evaluate(trial.few)
    if not answer.flags.writeable:
        return
    before = answer.copy()
    answer += 1.0
    if not np.array_equal(trial.again(trial.few), before):
        yield "changing the returned array changes what the model answers next"


def _arguments_untouched(trial: CostTrial) -> Iterator[str]:
    few, plain = trial.few, list(trial.few)
    before = [arch.to_json() for arch in plain]
    matrix = few.matrix.tobytes()
    trial.model.evaluate(plain)
    trial.model.evaluate(few)
    if [arch.to_json() for arch in plain] != before:
        yield "evaluate changes the list that it is given"
    if few.matrix.tobytes() != matrix:
        yield "evaluate changes the matrix of the Archs that it is given"


def _global_state(trial: CostTrial) -> Iterator[str]:
    later = changes(lambda: trial.model.evaluate(trial.few))
    for what in dict.fromkeys([*trial.first_changes, *later]):
        yield f"evaluate changes {what}"


def _strangers_refused(trial: CostTrial) -> Iterator[str]:
    arch = trial.archs[0]
    first = next(iter(arch.genes))
    wrong = {
        "of another space": Arch("another space", arch.genes),
        f"with an unknown option of {first!r}": Arch(
            arch.space, {**arch.genes, first: "no such option"}
        ),
        f"without {first!r}": Arch(arch.space, {k: v for k, v in arch.genes.items() if k != first}),
    }
    advice = "begin with Archs.of(space, archs), which raises ArchError"
    for what, stranger in wrong.items():
        try:
            answer = trial.model.evaluate([stranger])
        except HwnasError:
            continue
        except Exception as error:
            yield f"an architecture {what} ends in {type(error).__name__}: {error}; {advice}"
        else:
            yield f"an architecture {what} costs {answer}; {advice}"


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


def _first_difference(trial: CostTrial, found: np.ndarray[Any, Any]) -> str:
    if found.shape != trial.values.shape:
        return f"shape {found.shape}, before {trial.values.shape}"
    i = int(np.flatnonzero(found != trial.values)[0])
    return f"{trial.archs[i].id} costs {found[i]!r}, before {trial.values[i]!r}"


_DECLARED: Promise[Any] = Promise("declaration", _is_declared)
_ANSWERS: Promise[CostTrial] = Promise("answer", _answers)
COST_PROMISES: tuple[Promise[CostTrial], ...] = (
    _ANSWERS,
    Promise("empty batch", _none_cost_nothing),
    Promise("plain list", _plain_list),
    Promise("batch equals singles", _singles),
    Promise("any order", _any_order),
    Promise("equal architectures cost the same", _repeated),
    Promise("twice the same", _twice),
    Promise("answers are the caller's own", _own_answer),
    Promise("arguments untouched", _arguments_untouched),
    Promise("global state untouched", _global_state),
    Promise("strangers refused", _strangers_refused),
    Promise("interval", _interval),
    Promise("parts add up", _parts_add_up),
    Promise("monotone in bits", _monotone),
    Promise("save and load", _saved),
)
