"""What the quality predictor sees of an architecture.

The space's feature matrix, and summaries over repeated genes. A tree looks at one column at a time,
and quality falls with the worst and the average layer more than with any single one; so for each
gene that is repeated over blocks (`blocks.*.qkv.w_bits`) there are the mean and the minimum over
the blocks that are present, and for bit-widths the mean of 4^-bits, to which the noise of a uniform
quantizer is proportional. The last three columns are the same over all bit-widths.

Columns belong to the whole space: an architecture of a restricted space has the same row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hwnas.space import Arch, Archs, SearchSpace

__all__ = ["QualityFeatures"]

Float = NDArray[np.float64]
_INDEX = re.compile(r"(?<=\.)\d+(?=\.|$)")


class QualityFeatures:
    """Columns by name, and how quality should move along each of them."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self.whole = space.whole
        self._families = _families(self.whole)
        # the values of each gene's options; NaN at -1, where it is absent
        self._values = {
            c: np.array([*map(float, self.whole.genes[c].options), np.nan])
            for columns in self._families.values()
            for c in columns
        }

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The name of each column."""
        summaries = [
            f"{kind} {family}"
            for family, columns in self._families.items()
            for kind in self._kinds(columns)
        ]
        return (*self.whole.feature_names, *summaries)

    def matrix(self, archs: Sequence[Arch]) -> Float:
        """Return the columns, shape (n, f).

        Raises:
            ArchError: an arch is not one of the space.
        """
        return self.of_whole(self.in_whole(Archs.of(self._space, archs)))

    def of_whole(self, own: Archs) -> Float:
        """Return the columns of archs of the whole space, shape (n, f)."""
        parts = [self.whole.features(own)]
        for columns in self._families.values():
            values = np.stack([self._values[c][own.matrix[:, c]] for c in columns], axis=1)
            parts.append(_summaries(values, noise=self._role(columns) == "bits"))
        return np.concatenate(parts, axis=1)

    def signs(self, roles: Sequence[str]) -> tuple[int, ...]:
        """+1 where more should never be worse, -1 where less should not, 0 where nobody knows.

        `roles` are those of the genes for which more is never worse.
        """
        role_of = {gene.name: gene.role for gene in self.whole.genes if gene.ordered}
        plain = [int(role_of.get(name, "") in roles) for name in self.whole.feature_names]
        summaries = [
            (-1 if kind == "noise" else 1) * int(self._role(columns) in roles)
            for columns in self._families.values()
            for kind in self._kinds(columns)
        ]
        return (*plain, *summaries)

    def _role(self, columns: Sequence[int]) -> str:
        roles = {self.whole.genes[c].role for c in columns}
        return str(roles.pop()) if len(roles) == 1 else ""

    def _kinds(self, columns: Sequence[int]) -> tuple[str, ...]:
        return ("mean", "least", "noise") if self._role(columns) == "bits" else ("mean", "least")

    def in_whole(self, own: Archs) -> Archs:
        """Return archs of the space, which may be a restricted one, as rows of the whole."""
        if self._space is self.whole:
            return own
        columns = []
        for c, (narrow, wide) in enumerate(zip(self._space.genes, self.whole.genes, strict=True)):
            index = np.array([*(wide.options.index(o) for o in narrow.options), -1], np.int16)
            columns.append(index[own.matrix[:, c]])
        return Archs(self.whole, np.stack(columns, axis=1))


def _families(space: SearchSpace) -> dict[str, list[int]]:
    """Columns of the genes that are repeated over blocks, and of all bit-widths."""
    found: dict[str, list[int]] = {}
    for column, gene in enumerate(space.genes):
        if gene.ordered and not any(isinstance(o, str) for o in gene.options):
            found.setdefault(_INDEX.sub("*", gene.name), []).append(column)
            if gene.role == "bits":
                found.setdefault("all bits", []).append(column)
    return {family: columns for family, columns in found.items() if len(columns) > 1}


def _summaries(values: Float, *, noise: bool) -> Float:
    """Mean, least and, for `noise`, mean of 4^-value over what is not NaN; (n, 2 or 3).

    Where all of it is NaN they are 0.
    """
    present = ~np.isnan(values)
    count = np.maximum(present.sum(axis=1), 1)
    mean = np.where(present, values, 0.0).sum(axis=1) / count
    least = np.where(present, values, np.inf).min(axis=1)
    columns = [mean, np.where(np.isfinite(least), least, 0.0)]
    if noise:
        columns.append(np.where(present, 4.0 ** -np.nan_to_num(values), 0.0).sum(axis=1) / count)
    return np.stack(columns, axis=1)
