"""The kits as pytest classes, one test a promise: subclass one and give its fixtures.

class TestMyNpu(CostModelKit):
    @pytest.fixture
    def context(self) -> CostContext:
        return CostContext(space=my_space())

    @pytest.fixture
    def model(self, context: CostContext) -> CostModel:
        return MyNpu(context)
"""

from __future__ import annotations

import pytest

from hwnas.cost import CostContext, CostModel
from hwnas.space import SearchSpace
from hwnas.testing.cost_models import COST_PROMISES
from hwnas.testing.cost_trial import CostTrial, cost_trial
from hwnas.testing.promises import Promise
from hwnas.testing.search_spaces import SPACE_PROMISES, SpaceTrial, space_trial

__all__ = ["CostModelKit", "SearchSpaceKit"]


class CostModelKit:
    """Every promise of a cost model. Give the fixtures `context` and `model` (fitted, if it fits).

    The architectures are drawn from the context's space.
    """

    @pytest.fixture
    def context(self) -> CostContext:
        raise NotImplementedError("give a fixture `context` that returns a CostContext")

    @pytest.fixture
    def model(self) -> CostModel:
        raise NotImplementedError("give a fixture `model` that returns the cost model to test")

    @pytest.mark.parametrize("promise", COST_PROMISES, ids=lambda promise: promise.name)
    def test_keeps_its_promise(
        self, promise: Promise[CostTrial], model: CostModel, context: CostContext
    ) -> None:
        """The model keeps the promise that the test is named after."""
        assert promise.broken(cost_trial(model, context)) == []


class SearchSpaceKit:
    """Every promise of a search space. Give the fixture `space`."""

    @pytest.fixture
    def space(self) -> SearchSpace:
        raise NotImplementedError("give a fixture `space` that returns the space to test")

    @pytest.mark.parametrize("promise", SPACE_PROMISES, ids=lambda promise: promise.name)
    def test_keeps_its_promise(self, promise: Promise[SpaceTrial], space: SearchSpace) -> None:
        """The space keeps the promise that the test is named after."""
        assert promise.broken(space_trial(space)) == []
