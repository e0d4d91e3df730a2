"""Errors of groups at their options as tables: a row a group, a column a combination of options."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from hwnas.cost.model import CostModel

__all__ = [
    "CostMatrices",
    "ErrorMatrix",
    "Matrices",
    "Rescalable",
    "error_matrices",
    "level_of",
    "own_genes",
]


@runtime_checkable
class Matrices(Protocol):
    """A cost model that is a sum of what groups cost at each of their options."""

    def matrices(self) -> Sequence[Mapping[str, Any]]:
        """One mapping a group: `name`, `genes`, `options` of each gene, `errors` of that shape."""
        ...


@runtime_checkable
class Rescalable(Matrices, CostModel, Protocol):
    """One that can be turned into the unit of a measured cost, and saved so."""

    def rescaled(self, factor: float, *, unit: str, against: str) -> Self:
        """The same with every value times `factor`, which was found against another cost."""
        ...

    def save(self, path: str | Path) -> None:
        """Write the tables, so that they need not be made again."""
        ...


@dataclass(frozen=True)
class ErrorMatrix:
    """Groups that have the same options.

    Attributes:
        title: The genes of a column, such as `w_bits, a_bits`, and at what the others are held.
        columns: Each combination of options, such as `2, 8`.
        rows: Error by column of each group.
    """

    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float, ...]]

    @property
    def ends(self) -> tuple[float, float] | None:
        """The least and the largest error above 0; None where all are 0."""
        found = [e for row in self.rows.values() for e in row if e > 0]
        return (min(found), max(found)) if found else None


@dataclass(frozen=True)
class CostMatrices:
    """The tables of one cost model, with its unit and what else belongs to its numbers."""

    name: str
    unit: str
    note: str
    tables: tuple[ErrorMatrix, ...]


def own_genes(group: Mapping[str, Any]) -> list[str]:
    """The genes that are the group's own, by their names; all of them where none is.

    A layer's error may depend on the width of its block as well, which is not the layer's.
    """
    own = [gene for gene in group["genes"] if gene.startswith(group["name"])]
    return own or list(group["genes"])


def error_matrices(groups: Sequence[Mapping[str, Any]]) -> list[ErrorMatrix]:
    """Put groups with the same options together; other genes are held at their last option."""
    found: dict[tuple[str, tuple[str, ...]], dict[str, tuple[float, ...]]] = {}
    for group in groups:
        errors = np.array(group["errors"], dtype=np.float64)
        own, held = own_genes(group), []
        options = []
        for axis, gene in reversed(list(enumerate(group["genes"]))):
            if gene in own:
                options.append(group["options"][axis])
                continue
            held.append(f"{_word(gene)} {group['options'][axis][-1]}")
            errors = np.asarray(errors.take(-1, axis=axis))
        title = ", ".join(map(_word, own))
        title += f" (at {', '.join(reversed(held))})" if held else ""
        columns = tuple(", ".join(map(str, c)) for c in itertools.product(*reversed(options)))
        found.setdefault((title, columns), {})[group["name"]] = tuple(errors.ravel().tolist())
    return [ErrorMatrix(title, columns, rows) for (title, columns), rows in found.items()]


def level_of(error: float, ends: tuple[float, float]) -> float:
    """Where an error is between two others on a logarithmic scale, 0 to 1."""
    low, high = ends
    if error <= 0 or low == high:
        return float(error > 0)
    share = (math.log(error) - math.log(low)) / (math.log(high) - math.log(low))
    return min(max(share, 0.0), 1.0)


def _word(gene: str) -> str:
    """What a gene is of its block: `w_bits` of `blocks.3.lin1.w_bits`; `keep` of `keep.2`."""
    *front, last = gene.split(".")
    return front[-1] if last.isdigit() and front else last
