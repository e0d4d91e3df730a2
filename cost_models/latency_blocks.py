"""Latency of a network of blocks, from genes alone: sums over blocks, products within them.

    y = sum over parts t that are there of exp(a_t + sum over genes g that shape t of f_g(option))

A part is a prefix of gene names (`blocks.3`, `stages.1.blocks.0.attention`), shaped by its own
genes and by those of every prefix of it (`stages.1`, none: genes of the whole network). Parts that
differ in numbers alone share their factors f, so that a network of twenty blocks has the parameters
of one and a size for each. Fitted by Levenberg-Marquardt on ln y, parameters drawn towards 0 and
the sizes a_t of a family towards their mean. For spaces that do not say what their layers are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cost_models.latency_linear import least_of
from cost_models.quality_features import QualityFeatures
from hwnas.calibration import hold_out
from hwnas.space import SearchSpace

__all__ = ["BlockFit", "BlockLayout"]

Float = NDArray[np.float64]
Index = NDArray[np.int64]
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)|^\d+(?=\.)")
_PENALTY = 1e-4  # mean squared relative error that a parameter is worth, 1 away from its mean
_STEPS = 40
_PARTS = 4  # folds of the left-out predictions


@dataclass(frozen=True)
class _Part:
    """One summand: which genes must be there, and where its parameters are.

    `genes` are (column, offset): the factor of option k is parameter offset + k.
    """

    own: tuple[int, ...]
    genes: tuple[tuple[int, int], ...]
    size: int
    mean: int


class BlockLayout:
    """The parts of a space, and the parameters that they share."""

    def __init__(self, space: SearchSpace) -> None:
        self.features = QualityFeatures(space)
        whole = self.features.whole
        names = [gene.name for gene in whole.genes]
        prefixes = dict.fromkeys(name.rpartition(".")[0] for name in names)
        shared: dict[tuple[str, ...], int] = {}
        self.count = 0
        parts = []
        for prefix in ("", *(p for p in prefixes if p)):
            family = _NUMBER.sub("*", prefix)
            own = tuple(c for c, n in enumerate(names) if n.rpartition(".")[0] == prefix)
            genes = []
            for c, name in enumerate(names):
                home = name.rpartition(".")[0]
                if len(whole.genes[c].options) < 2 or not _inside(prefix, home):
                    continue
                key = (family, _NUMBER.sub("*", name))
                offset = shared.setdefault(key, self.count)
                if offset == self.count:
                    self.count += len(whole.genes[c].options)
                genes.append((c, offset))
            parts.append((family, own if prefix else (), tuple(genes)))
        means: dict[str, int] = {}
        for family, _, _ in parts:
            means.setdefault(family, self.count + len(means))
        start = self.count + len(means)
        self.parts = tuple(
            _Part(own, genes, start + i, means[family])
            for i, (family, own, genes) in enumerate(parts)
        )
        self.count = start + len(self.parts)
        self.means = np.array(sorted(means.values()))

    def terms(self, index: Index, parameters: Float) -> Float:
        """Return each part's milliseconds for rows of option indexes (n, genes), (n, parts)."""
        out = np.zeros((len(index), len(self.parts)))
        for t, part in enumerate(self.parts):
            present = np.all(index[:, list(part.own)] >= 0, axis=1)
            log = np.full(len(index), parameters[part.size] + parameters[part.mean])
            for column, offset in part.genes:
                own = index[:, column]
                log += np.where(own >= 0, parameters[offset + np.maximum(own, 0)], 0.0)
            out[:, t] = np.where(present, np.exp(np.minimum(log, 50.0)), 0.0)
        return out

    def slopes(self, index: Index, terms: Float) -> Float:
        """Derivatives of ln y by the parameters, (n, parameters)."""
        share = terms / terms.sum(axis=1, keepdims=True)
        out = np.zeros((len(index), self.count))
        rows = np.arange(len(index))
        for t, part in enumerate(self.parts):
            out[:, part.size] += share[:, t]
            out[:, part.mean] += share[:, t]
            for column, offset in part.genes:
                own = index[:, column]
                there = own >= 0
                out[rows[there], offset + own[there]] += share[there, t]
        return out


@dataclass(frozen=True, eq=False)
class BlockFit:
    """Fitted parameters (p,), the least prediction, and predictions of each row without it (n,)."""

    layout: BlockLayout
    parameters: Float
    least: float
    left_out: Float

    @classmethod
    def of(cls, x: Float, y: Float, layout: BlockLayout) -> Self:
        """Fit option indexes x (n, genes), -1 where absent, to times y (n,)."""
        index = x.astype(np.int64)
        least = least_of(y)
        left_out = np.empty(len(y))
        fold = sum((~hold_out([str(i) for i in range(len(y))], k / _PARTS)).astype(int)
                   for k in range(1, _PARTS))  # fmt: skip
        for k in np.unique(fold):
            held = fold == k
            found = _solved(layout, index[~held], y[~held])
            left_out[held] = layout.terms(index[held], found).sum(axis=1)
        return cls(layout, _solved(layout, index, y), least, np.maximum(left_out, least))

    def predict(self, x: Float) -> Float:
        """Return milliseconds for option indexes x (n, genes), shape (n,)."""
        terms = self.layout.terms(x.astype(np.int64), self.parameters)
        # summed part by part: numpy sums a row in an order that depends on n
        total = np.zeros(len(x))
        for t in range(terms.shape[1]):
            total += terms[:, t]
        out: Float = np.maximum(total, self.least)
        return out

    def beyond(self, x: Float) -> NDArray[np.bool_]:
        """Nowhere: options that never occurred are told by other means, all others did."""
        return np.zeros(len(x), np.bool_)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays that `of_arrays` reads back."""
        return {
            "parameters": self.parameters, "least": np.array(self.least), "left_out": self.left_out
        }  # fmt: skip

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]], layout: BlockLayout) -> Self:
        """Read `to_arrays` back."""
        return cls(layout, arrays["parameters"], float(arrays["least"]), arrays["left_out"])


def _inside(prefix: str, home: str) -> bool:
    """Whether genes of `home` shape the part `prefix`: itself, or what it is a part of."""
    return home in ("", prefix) or prefix.startswith(f"{home}.")


def _solved(layout: BlockLayout, index: Index, y: Float) -> Float:
    """Levenberg-Marquardt: halve the damping after a good step, quadruple it after a bad one."""
    found = np.zeros(layout.count)
    found[layout.means] = np.log(float(np.median(y)) / len(layout.parts))
    free = np.full(layout.count, _PENALTY)
    free[layout.means] = 1e-9
    start = found.copy()
    damping, target = 1e-2, np.log(y)
    terms = layout.terms(index, found)
    loss = _loss(terms, target, found - start, free)
    for _ in range(_STEPS):
        slopes = layout.slopes(index, terms)
        left = target - np.log(terms.sum(axis=1))
        normal = slopes.T @ slopes / len(y) + np.diag(free)
        downhill = slopes.T @ left / len(y) - free * (found - start)
        while damping < 1e8:
            step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), downhill)
            tried = layout.terms(index, found + step)
            new = _loss(tried, target, found + step - start, free)
            if new < loss:
                break
            damping *= 4.0
        else:
            break
        gained = loss - new
        found, terms, loss, damping = found + step, tried, new, damping / 2.0
        if gained < 1e-6 * loss:
            break
    return found


def _loss(terms: Float, target: Float, away: Float, free: Float) -> float:
    left = target - np.log(terms.sum(axis=1))
    return float((left**2).mean() + (free * away**2).sum())
