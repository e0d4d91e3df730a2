"""Finding out that weights or images are unusable before a run folder exists."""

from __future__ import annotations

from hwnas.errors import CheckpointError, DataError, DeviceError
from hwnas.space import Archs
from hwnas.workflows.resolve import Resolved

__all__ = ["check_weights_and_data"]


def check_weights_and_data(live: Resolved) -> None:
    """Price the smallest design with every cost model, which loads what each of them needs.

    A model that cannot price this one design is the search's business: it counts failures.

    Raises:
        CheckpointError: the weights cannot be used.
        DataError: the images cannot be used.
        DeviceError: the device cannot run the space, or cannot be reached.
    """
    models = [column.model for column in live.problem.columns]
    smallest = Archs.of(live.space, [live.space.smallest()])
    for model in [*models, *([live.rescore] if live.rescore is not None else [])]:
        try:
            model.evaluate(smallest)
        except (CheckpointError, DataError, DeviceError):
            raise
        except Exception:  # a stranger's model may raise anything; the search records it
            continue
