"""Promises about what a cost model leaves alone, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator

from hwnas.errors import HwnasError
from hwnas.space import Arch
from hwnas.testing.cost_trial import CostTrial
from hwnas.testing.global_state import changed_weights, changes

__all__ = [
    "arguments_untouched",
    "global_state_untouched",
    "strangers_refused",
    "weights_untouched",
]


def arguments_untouched(trial: CostTrial) -> Iterator[str]:
    """The given list and matrix are as they were."""
    few, plain = trial.few, list(trial.few)
    before = [arch.to_json() for arch in plain]
    matrix = few.matrix.tobytes()
    trial.model.evaluate(plain)
    trial.model.evaluate(few)
    if [arch.to_json() for arch in plain] != before:
        yield "evaluate changes the list that it is given"
    if few.matrix.tobytes() != matrix:
        yield "evaluate changes the matrix of the Archs that it is given"


def global_state_untouched(trial: CostTrial) -> Iterator[str]:
    """Random states, working directory, environment and torch's settings are as they were."""
    later = changes(lambda: trial.model.evaluate(trial.few))
    for what in dict.fromkeys([*trial.first_changes, *later]):
        yield f"evaluate changes {what}"


def weights_untouched(trial: CostTrial) -> Iterator[str]:
    """The supernet that the model loaded has the weights that it had."""
    # Asking the context for its supernet would load weights for models that need none.
    supernet = trial.context._loaded.get("supernet")
    if not hasattr(supernet, "state_dict"):
        return
    changed = changed_weights(supernet, lambda: trial.model.evaluate(trial.few))
    if changed:
        yield f"evaluate changes {len(changed)} tensors of the supernet, first {changed[0]}"


def strangers_refused(trial: CostTrial) -> Iterator[str]:
    """What is no architecture of the space ends in an error of ours that says so."""
    arch = trial.archs[0]
    space = trial.context.space
    # a gene with one option may be left unsaid
    first = next((n for n in arch.genes if len(space.gene(n).options) > 1), next(iter(arch.genes)))
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
