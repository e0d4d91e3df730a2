"""The promise of a cost model that declares `monotone_in_bits = True`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hwnas.space import Arch, Archs
from hwnas.testing.cost_trial import CostTrial

__all__ = ["more_bits_never_less"]

_TRIED = 4
_SLACK = 1e-12  # relative; sums in another order differ in the last bits


def more_bits_never_less(trial: CostTrial) -> Iterator[str]:
    """Yield where an architecture with one bit-width more has a lower value."""
    space = trial.context.space
    bits = [gene.role == "bits" and gene.ordered for gene in space.genes]
    if not any(bits):
        return
    # The largest has nowhere to go; the smallest and the random ones do.
    for index in [i for i in range(len(trial.archs)) if i != 1][:_TRIED]:
        arch = trial.archs[index]
        wider = _wider(trial.archs.matrix[index], space.neighbours(arch), np.array(bits))
        values = trial.again(wider)
        less = np.flatnonzero(values < trial.values[index] - _SLACK * abs(trial.values[index]))
        if less.size:
            other = wider[int(less[0])]
            yield (
                f"{_changed(arch, other)} lowers the value from {trial.values[index]} to "
                f"{values[less[0]]}"
            )
            return


def _wider(row: NDArray[np.int16], neighbours: Archs, bits: NDArray[np.bool_]) -> Archs:
    """Keep the neighbours that differ from `row` in bit-widths only, and upwards only."""
    step = neighbours.matrix.astype(int) - row
    upwards = (step[:, bits] >= 0).all(axis=1) & (step[:, ~bits] == 0).all(axis=1)
    return neighbours.take(upwards)


def _changed(arch: Arch, other: Arch) -> str:
    return ", ".join(
        f"{name} from {arch[name]} to {value}"
        for name, value in other.genes.items()
        if arch.get(name) != value
    )
