"""Which subnets a training step trains.

Sources: the sandwich rule of BigNAS (Yu et al., 2020), the largest, the smallest and some random
subnets in every step; the exponential tilt over bit-widths is ours. With independent uniform bits
the costs of subnets crowd in the middle (central limit theorem), and a budget outside that band
would be searched among subnets that were never trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.space import Archs, SearchSpace

__all__ = ["SubnetSampler", "draw_archs", "opened"]

Indices = NDArray[np.int64]
_TILT = 5.0
_UNIFORM = 0.2


def draw_archs(space: SearchSpace, rng: np.random.Generator, n: int) -> Archs:
    """Draw n archs whose costs cover the range of the space.

    Bit-widths follow an exponential tilt: one lambda ~ U(-5, 5) for each arch, then each bit gene
    takes option b with probability ~ b^lambda; with probability 0.2 all bits are equal instead.
    Other genes are uniform.
    """
    return SubnetSampler(space).draw(rng, n)


def opened(space: SearchSpace, roles: Sequence[str], bits: Sequence[int]) -> SearchSpace:
    """The part of a space in which only some roles and bit-widths are free.

    Genes of a role that is not in `roles` keep their last, largest option. A gene of role `bits`
    keeps its options among `bits`; where it has none of them, the one nearest to the largest of
    `bits` (of two, the larger).
    """
    left: dict[str, list[Any]] = {}
    for gene in space.genes:
        if gene.role == "bits":
            options = [o for o in gene.options if o in bits]
            left[gene.name] = list(options or [_nearest(gene.options, max(bits))])
        elif gene.role not in roles:
            left[gene.name] = [gene.options[-1]]
    return space.restrict(left)


class SubnetSampler:
    """Draws subnets of a space; equal generators draw equal subnets."""

    def __init__(self, space: SearchSpace, *, tilt: float = _TILT, uniform: float = _UNIFORM):
        self.space = space
        self._tilt, self._uniform = tilt, uniform
        self._sizes = space.variable_sizes
        self._bits = {
            column: np.array([float(o) for o in gene.options])
            for column, gene in enumerate(space.variables)
            if gene.role == "bits"
        }
        self.bits: tuple[float, ...] = tuple(sorted({b for o in self._bits.values() for b in o}))
        self._resolution = next(
            (c for c, gene in enumerate(space.variables) if gene.role == "resolution"), None
        )

    def sandwich(
        self, rng: np.random.Generator, n_random: int, *, resolution: int | None = None
    ) -> Archs:
        """The largest arch, the smallest with one uniform bit-width b*, and `n_random` others.

        b* is drawn from all bit-widths of the space. `resolution` is that of all of them; without
        it each has its own. Equal archs are given once.
        """
        top = self._sizes - 1
        bottom = self._with_bits(np.zeros_like(top), float(rng.choice(self.bits or (0.0,))))
        rows = np.stack([top, bottom, *self._draw(rng, n_random)])
        return self._archs(rows, resolution).unique()

    def draw(self, rng: np.random.Generator, n: int, *, resolution: int | None = None) -> Archs:
        """Draw n archs; duplicates stay."""
        return self._archs(np.stack(self._draw(rng, n)), resolution)

    def largest(self, bits: float, *, resolution: int | None = None) -> Archs:
        """The largest arch with all bits at, or nearest to, `bits`."""
        return self._archs(self._with_bits(self._sizes - 1, bits)[None], resolution)

    def smallest(self, bits: float, *, resolution: int | None = None) -> Archs:
        """The smallest arch with all bits at, or nearest to, `bits`."""
        return self._archs(self._with_bits(np.zeros_like(self._sizes), bits)[None], resolution)

    def _draw(self, rng: np.random.Generator, n: int) -> list[Indices]:
        rows = []
        for _ in range(n):
            x = rng.integers(0, self._sizes, dtype=np.int64)
            if self._bits and rng.random() < self._uniform:
                x = self._with_bits(x, float(rng.choice(self.bits)))
            else:
                tilt = rng.uniform(-self._tilt, self._tilt)
                for column, options in self._bits.items():
                    weights = (options / options.max()) ** tilt
                    x[column] = rng.choice(len(options), p=weights / weights.sum())
            rows.append(x)
        return rows

    def _with_bits(self, x: Indices, bits: float) -> Indices:
        x = x.copy()
        for column, options in self._bits.items():
            x[column] = int(np.flatnonzero(options == _nearest(tuple(options), bits))[0])
        return x

    def _archs(self, rows: Indices, resolution: int | None) -> Archs:
        if resolution is not None and self._resolution is not None:
            options = self.space.variables[self._resolution].options
            rows = rows.copy()
            rows[:, self._resolution] = options.index(resolution)
        return self.space.decode(self.space.repair(rows))


def _nearest(options: Sequence[Any], width: float) -> Any:
    return min(options, key=lambda option: (abs(float(option) - width), -float(option)))
