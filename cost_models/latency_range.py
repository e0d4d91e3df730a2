"""What was measured: the options that occurred, and how large the networks were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Range"]

Float = NDArray[np.float64]
_SLACK = 0.02  # of the largest and smallest size


@dataclass(frozen=True, eq=False)
class Range:
    """Options that occurred, and the smallest and largest sizes (k,) of networks: MACs, bytes.

    `seen` (genes, options + 1) says which option of a gene of the whole space occurred; the last
    column, and those beyond the options of a gene, are true: an absent gene is nothing new.
    """

    seen: NDArray[np.bool_]
    low: Float
    high: Float

    @classmethod
    def of(cls, sizes: Float, options: NDArray[np.int16], counts: Sequence[int]) -> Self:
        """Describe measured archs by sizes (n, k) and indexes of options (n, genes), -1 absent.

        `counts` says how many options each gene has.
        """
        seen = np.ones((len(counts), max(counts) + 1), np.bool_)
        for gene, count in enumerate(counts):
            seen[gene, :count] = np.isin(np.arange(count), options[:, gene])
        low, high = sizes.min(axis=0), sizes.max(axis=0)
        return cls(seen, low * (1 - _SLACK), high * (1 + _SLACK))

    def joined(self, others: Sequence[Range]) -> Range:
        """Return the range in which either this or all of `others` have measured."""
        seen = np.logical_and.reduce([other.seen for other in others])
        low = np.max([other.low for other in others], axis=0)
        high = np.min([other.high for other in others], axis=0)
        return Range(self.seen | seen, np.minimum(self.low, low), np.maximum(self.high, high))

    def beyond(self, sizes: Float, options: NDArray[np.int16]) -> NDArray[np.bool_]:
        """Return which archs have an option that never occurred or a size beyond, shape (n,)."""
        out = np.asarray(((sizes < self.low) | (sizes > self.high)).any(axis=1))
        for gene in np.flatnonzero(~self.seen.all(axis=1)):
            out |= ~self.seen[gene][options[:, gene]]
        return out

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays that `of_arrays` reads back."""
        return {"seen": self.seen, "low": self.low, "high": self.high}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Read `to_arrays` back."""
        return cls(arrays["seen"], arrays["low"], arrays["high"])
