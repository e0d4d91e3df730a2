"""What every search algorithm offers to the loop that drives it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hwnas.space import Archs

__all__ = ["Algorithm", "Told"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


class Told(Protocol):
    """What an algorithm may see of the evaluations: everything by ledger row, minimized."""

    def f(self, rows: IntArray) -> FloatArray:
        """Objectives, (n, n_obj)."""
        ...

    def g(self, rows: IntArray) -> FloatArray:
        """Constraints, (n, n_limits); at most 0 where a limit holds."""
        ...

    def ok(self, rows: IntArray) -> NDArray[np.bool_]:
        """Where every cost model answered, (n,); f and g are meaningless elsewhere."""
        ...


class Algorithm(Protocol):
    """Proposes architectures (`ask`) and learns what they cost (`tell`), in turns.

    Everything random comes from the seed given to the constructor, so that the same answers lead to
    the same questions: this is what resuming rests on.
    """

    name: str

    def ask(self, most: int) -> Archs:
        """Propose up to `most` architectures, none proposed before; none at all ends the run."""
        ...

    def tell(self, rows: IntArray, told: Told) -> None:
        """Learn the ledger rows of the last proposals, in their order.

        Fitted objectives of older rows may have changed since.
        """
        ...
