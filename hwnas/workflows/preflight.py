"""Finding out that weights or images are unusable before a run folder exists."""

from __future__ import annotations

from collections.abc import Iterator

from hwnas.cost import CostModel, declared_needs
from hwnas.errors import CheckpointError, DataError, DeviceError
from hwnas.search import refinement_of
from hwnas.space import Archs
from hwnas.workflows.resolve import Resolved

__all__ = ["check_weights_and_data"]


def check_weights_and_data(live: Resolved) -> None:
    """Load what each cost model says it needs, then price the smallest design with each.

    A model that cannot price this one design is the search's business: it counts failures.

    Raises:
        CostError: a cost model needs what the user did not give.
        CheckpointError: the weights cannot be used.
        DataError: the images, or the subnets that a predictor learns from, cannot be used.
        DeviceError: the device cannot run the space, or cannot be reached.
    """
    smallest = Archs.of(live.space, [live.space.smallest()])
    for model in _models(live):
        for name in declared_needs(model):
            live.context.require(name, by=model.name)
        try:
            model.evaluate(smallest)
        except (CheckpointError, DataError, DeviceError):
            raise
        except Exception:  # a stranger's model may raise anything; the search records it
            continue


def _models(live: Resolved) -> Iterator[CostModel]:
    """Cost models of the search; for one that is refined also its real counterpart."""
    for column in live.problem.columns:
        plan = refinement_of(column.model)
        yield column.model
        if plan is not None:
            yield plan.real
    if live.rescore is not None:
        yield live.rescore
