"""Tables of errors: what each option of a few genes adds, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import CostError
from hwnas.space import Archs, SearchSpace

__all__ = ["ErrorTable", "ErrorTerm", "Scale"]

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scale:
    """A factor that turns errors into the unit of a measured cost, and the cost's name."""

    factor: float
    unit: str
    against: str


@dataclass(frozen=True, eq=False)
class ErrorTerm:
    """Errors of one group at every combination of its genes.

    Attributes:
        name: The group, such as `blocks.3.qkv`.
        genes: Names of the genes; where one is absent, the term is 0.
        values: Shape (images, *options of each gene).
        falling: Genes whose larger options can do no harm: the error is made to fall with them.
    """

    name: str
    genes: tuple[str, ...]
    values: Float
    falling: tuple[str, ...] = ()

    @cached_property
    def mean(self) -> Float:
        """Mean over images, at least 0, never rising along `falling`: shape of the options.

        Source: the monotone clip of ModelOpt's AutoQuantize; a larger error at more bits is noise,
        and so is a negative trace of Hutchinson's estimate.
        """
        clipped: Float = np.maximum(self.values.mean(axis=0), 0.0)
        for axis in self._axes:
            flipped = np.flip(clipped, axis)
            clipped = np.flip(np.maximum.accumulate(flipped, axis=axis), axis)
        return clipped

    @property
    def clipped(self) -> int:
        """Entries that the mean over images was moved by."""
        return int((~np.isclose(self.mean, self.values.mean(axis=0), rtol=1e-12, atol=0.0)).sum())

    def within(self, space: SearchSpace) -> ErrorTerm:
        """The same for a space that was declared as this one and has lost options."""
        values = self.values
        for axis, name in enumerate(self.genes, start=1):
            declared = list(space.whole.gene(name).options)
            left = [declared.index(option) for option in space.gene(name).options]
            values = values.take(left, axis=axis)
        return replace(self, values=values)

    @property
    def _axes(self) -> list[int]:
        return [self.genes.index(gene) for gene in self.falling]


class ErrorTable:
    """Sums of terms for archs of one space; `whole` are the terms as they were measured.

    Args:
        space: The space of the archs.
        whole: Terms with every option that the space was declared with.

    Raises:
        CostError: a term has another shape than its genes, or another number of images.
    """

    def __init__(self, space: SearchSpace, whole: Sequence[ErrorTerm]) -> None:
        self._space, self.whole = space, tuple(whole)
        images = len(self.whole[0].values) if self.whole else 0
        for term in self.whole:
            options = (len(space.whole.gene(gene).options) for gene in term.genes)
            shape = (images, *options)
            if term.values.shape != shape:
                raise CostError(
                    f"errors of {term.name} have shape {term.values.shape}; expected {shape}: "
                    f"images, then the options of {', '.join(term.genes)}"
                )
        self.terms = tuple(term.within(space) for term in self.whole)

    def totals(self, archs: Archs) -> Float:
        """Sums of the terms' means, shape (n,)."""
        total = np.zeros(len(archs))
        for term in self.terms:
            total += self._read(term.mean[None], term, archs)[0]
        return total

    def by_image(self, archs: Archs) -> Float:
        """Sums for each image without any clip, shape (images, n)."""
        images = len(self.terms[0].values) if self.terms else 0
        total = np.zeros((images, len(archs)))
        for term in self.terms:
            total += self._read(term.values, term, archs)
        return total

    def parts(self, archs: Archs) -> dict[str, float]:
        """The terms of the first arch by name; terms of one name are added."""
        found: dict[str, float] = {}
        for term in self.terms:
            value = float(self._read(term.mean[None], term, archs[:1])[0, 0])
            found[term.name] = found.get(term.name, 0.0) + value
        return found

    def to_dict(self) -> list[dict[str, Any]]:
        """Plain JSON: name, genes, options and mean errors of each term."""
        return [
            {
                "name": term.name,
                "genes": list(term.genes),
                "options": [list(self._space.gene(gene).options) for gene in term.genes],
                "errors": term.mean.tolist(),
                "clipped": term.clipped,
            }
            for term in self.terms
        ]

    def _read(self, values: Float, term: ErrorTerm, archs: Archs) -> Float:
        """Entries of (images, *options) at the archs' options, shape (images, n)."""
        columns = archs.matrix[:, [self._space.column(gene) for gene in term.genes]]
        present = (columns >= 0).all(axis=1)
        found = values[(slice(None), *columns.T)]
        return np.where(present, found, 0.0)
