"""Uniform crossover, a variable or a block at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["blocks_of", "cross"]

IntArray = NDArray[np.int64]

CROSSED = 0.9  # share of matings that cross at all, as in pymoo's NSGA-II
WHOLE_BLOCKS = 0.5  # share of those that keep blocks together


def blocks_of(names: Sequence[str]) -> NDArray[np.intp]:
    """Number the block of each variable, (n_var,): `blocks.3.heads` belongs to `blocks.3`.

    A name without a dot is a block of its own.
    """
    keys = [name.rpartition(".")[0] or name for name in names]
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys], dtype=np.intp)


def cross(
    first: IntArray, second: IntArray, blocks: NDArray[np.intp], rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Exchange genes between paired parents, each (n, n_var); returns both children of each pair.

    Half of the pairs exchange single variables, each with probability 1/2; the other half whole
    blocks, so that bit-widths that suit one another stay together. One pair in ten is left alone.
    """
    n, n_var = first.shape
    single = rng.random((n, n_var)) < 0.5
    n_blocks = int(blocks.max()) + 1 if n_var else 0
    whole = (rng.random((n, n_blocks)) < 0.5)[:, blocks]
    draw = rng.random((n, 1))
    swap = np.where(draw < CROSSED * WHOLE_BLOCKS, whole, single) & (draw < CROSSED)
    return np.where(swap, second, first), np.where(swap, first, second)
