"""A quality with a closed form for the space `toy`, so that every front is known exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import CostContext, Direction
from hwnas.errors import CostError
from hwnas.space import Arch, Archs, SearchSpace

__all__ = ["ToyQuality"]

Float = NDArray[np.float64]
_GENES = ("resolution", "depth", "blocks.0.width", "blocks.0.bits")
_GAIN = (0.50, 0.35, 0.25)  # what a block adds, before width and bits
_MISMATCH = 0.02  # loss for each doubling between the bits of neighbors
_SHALLOW = 0.03  # loss of a high resolution that few blocks look at


class ToyQuality:
    """Score in (0, 1) that grows with everything, and is rough enough to be worth a search.

        strength = sum over blocks of gain x sqrt(width / 128) x (1 - 2 ** -(bits - 1))
        score    = (1 - exp(-2 strength)) x (resolution / 192) ** 0.3
                   - 0.02 x sum of |log2 bits_i - log2 bits_(i+1)| - 0.03 x (shallow and large)

    Source: none; made up, to have a front with steps and dents.

    Raises:
        CostError: the space is not like `toy`.
    """

    name = "toy_quality"
    unit = "score"
    direction: Direction = "max"

    def __init__(self, context: CostContext) -> None:
        names = {gene.name for gene in context.space.genes}
        missing = [name for name in _GENES if name not in names]
        if missing:
            raise CostError(
                f"cost model {self.name} is for the space toy; {context.space.name} has no "
                f"{', '.join(missing)}"
            )
        self._space = context.space

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        """Return scores, shape (n,)."""
        batch = Archs.of(self._space, archs)
        width, bits = (_block_values(self._space, batch, gene) for gene in ("width", "bits"))
        active = width > 0
        # 2 ** 1 is 2, so an absent block, whose bits read 0, would not vanish by itself
        kept = np.where(active, np.sqrt(width / 128) * (1 - 2.0 ** -(bits - 1)), 0.0)
        strength = (np.array(_GAIN) * kept).sum(axis=1)
        resolution = _values(self._space, batch, "resolution")
        score = (1 - np.exp(-2 * strength)) * (resolution / 192) ** 0.3
        log_bits = np.log2(np.where(active, bits, 1.0))
        jumps = np.abs(np.diff(log_bits, axis=1)) * active[:, 1:]
        shallow = (active.sum(axis=1) < len(_GAIN)) & (resolution > 128)
        rough: Float = score - _MISMATCH * jumps.sum(axis=1) - _SHALLOW * shallow
        return rough


def _block_values(space: SearchSpace, archs: Archs, gene: str) -> Float:
    """Values of a gene of each block, shape (n, blocks), 0 where the block is absent."""
    return np.stack(
        [_values(space, archs, f"blocks.{block}.{gene}") for block in range(len(_GAIN))], axis=1
    )


def _values(space: SearchSpace, archs: Archs, gene: str) -> Float:
    # index -1 of an absent gene reads the last entry
    options = np.array([*space.gene(gene).options, 0], np.float64)
    return options[archs.matrix[:, space.column(gene)]]
