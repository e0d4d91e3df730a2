"""The feature matrix for predictors: made from the space, never from the data seen.

For each search variable: an ordered one gives one column, numbers scaled to [0, 1] between its
smallest and largest option (names: by position); an unordered one gives a column for each option.
An absent variable gives zeros. For each condition under which genes are active, one column says
whether it holds: 1 present, 0 absent.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwnas.space.declarations import Scalar
from hwnas.space.genes import Gene
from hwnas.space.layout import Layout, Matrix


def features(layout: Layout, matrix: Matrix) -> NDArray[np.float64]:
    """Return the features of canonical rows, shape (n, f), float64, all in [0, 1]."""
    blocks: list[NDArray[np.float64]] = [np.zeros((matrix.shape[0], 0))]
    for g in layout.free:
        columns = layout.groups[g]
        index = matrix[:, list(columns)].max(axis=1)  # tied genes that are present agree
        blocks.append(_coded(layout.genes[columns[0]])[index])
    blocks += [(matrix[:, [c]] >= 0).astype(np.float64) for c in _presence(layout).values()]
    return np.concatenate(blocks, axis=1)


def feature_names(layout: Layout) -> tuple[str, ...]:
    """Return the names of the columns: `gene`, `gene=option`, `block:present`."""
    names: list[str] = []
    for g in layout.free:
        gene = layout.genes[layout.groups[g][0]]
        names += [gene.name] if gene.ordered else [f"{gene.name}={o}" for o in gene.options]
    return (*names, *_presence(layout))


def _coded(gene: Gene) -> NDArray[np.float64]:
    """Return the columns of each option and, as the last row, of an absent gene."""
    n = len(gene.options)
    coded = _scaled(gene.options)[:, None] if gene.ordered else np.eye(n)
    return np.concatenate([coded, np.zeros((1, coded.shape[1]))])


def _scaled(options: tuple[Scalar, ...]) -> NDArray[np.float64]:
    numbers = [float(o) for o in options if not isinstance(o, str)]
    values = np.array(numbers if len(numbers) == len(options) else range(len(options)), float)
    scaled: NDArray[np.float64] = (values - values[0]) / (values[-1] - values[0])
    return scaled


def _presence(layout: Layout) -> dict[str, int]:
    """Return one column for each different condition, named after what its genes share."""
    sharing: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for c, conditions in enumerate(layout.conditions):
        if conditions and not layout.never[c]:
            sharing.setdefault(conditions, []).append(c)
    found: dict[str, int] = {}
    for columns in sharing.values():
        shared = _shared_prefix([layout.genes[c].name for c in columns])
        name = shared or layout.genes[columns[0]].name
        if f"{name}:present" in found:
            name = layout.genes[columns[0]].name
        found[f"{name}:present"] = columns[0]
    return found


def _shared_prefix(names: list[str]) -> str:
    parts = [n.split(".")[:-1] for n in names]
    shared = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return ".".join(shared)
