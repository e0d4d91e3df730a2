"""A cost model together with what is needed to put it to the test."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import CostContext
from hwnas.space import Arch, Archs
from hwnas.testing.global_state import changes

__all__ = ["CostTrial", "cost_trial", "training_values"]

_SEED = 10


@dataclass(frozen=True)
class CostTrial:
    """A model, architectures, and its first answer about them.

    `model` is `Any` because a broken one is the point: nothing is known of it. `first` is a copy
    of the answer as it came, `first_changes` what it changed of the global state. Numbers agree
    where they differ by no more than `rtol` relative to their size; the same call twice must agree
    to the last bit.
    """

    model: Any
    context: CostContext
    archs: Archs
    first: Any
    first_changes: tuple[str, ...]
    rtol: float

    @property
    def values(self) -> NDArray[np.float64]:
        """The first answer as an array, shape (n,)."""
        return np.asarray(self.first, dtype=np.float64)

    @property
    def few(self) -> Archs:
        """The first three, for promises that a few architectures are enough for."""
        return self.archs[:3]

    def again(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """Ask the model again."""
        return np.asarray(self.model.evaluate(archs), dtype=np.float64)

    def agree(self, found: NDArray[np.float64], expected: NDArray[np.float64]) -> bool:
        """Whether two answers have one shape and agree within `rtol`."""
        return found.shape == expected.shape and np.allclose(
            found, expected, rtol=self.rtol, atol=0.0
        )


def cost_trial(
    model: Any,
    context: CostContext,
    *,
    n: int = 12,
    rng: np.random.Generator | None = None,
    rtol: float = 1e-9,
) -> CostTrial:
    """Ask `model` about the smallest, the largest and `n` random architectures of the space."""
    space = context.space
    drawn = space.sample(rng or np.random.default_rng(_SEED), n)
    archs = Archs.of(space, [space.smallest(), space.largest(), *drawn])
    answers: list[Any] = []
    changed = changes(lambda: answers.append(copy(model.evaluate(archs))))
    return CostTrial(model, context, archs, answers[0], tuple(changed), rtol)


def training_values(context: CostContext, archs: Archs) -> NDArray[np.float64]:
    """Positive values that depend on the architecture, to fit a model on, shape (n,)."""
    features = context.space.features(archs)
    weights = np.linspace(1.0, 2.0, features.shape[1])
    return np.asarray(1.0 + np.abs(features @ weights), dtype=np.float64)
