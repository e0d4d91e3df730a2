"""Latency of a device from few measurements and from predictors of other devices.

Each other device (source) has a table: what its predictor says of architectures. With s sources,

    F (m, s)  their tables over m random architectures, each divided by its median, centered
    V (s, k)  the leading right singular vectors of F: in which ways the sources differ

    fewer than 12 measurements    y ~ a + b x table of the source that correlates best
    else                          y ~ ridge on F V, k = n // 4 (1 to 6), then
                                  ln(y / that) ~ ridge on one column an option

Every penalty is chosen by leaving one out. Source: `spec/cost-models.md` 4.8, "table transfer",
found better there on the public tables of HELP (Lee et al. 2021) than the best single source from
20 measurements on, and than a table from scratch up to 100.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cost_models.latency_linear import LinearFit, least_of
from cost_models.latency_state import nested, under

__all__ = ["ENOUGH", "FEWEST_SHOTS", "SourceTables", "TransferFit"]

Float = NDArray[np.float64]
FEWEST_SHOTS = 5
ENOUGH = 12  # measurements from which several sources are combined
_MOST_WAYS = 6
_A_WAY = 4  # measurements
_ALONE = 60  # labels up to which each is left out alone
_PARTS = 20
_RESIDUAL_PENALTIES = np.logspace(-1, 4, 11)


@dataclass(frozen=True, eq=False)
class SourceTables:
    """In which ways s sources differ: medians and means (s,), directions (s, ways)."""

    typical: Float
    center: Float
    ways: Float

    @classmethod
    def of(cls, tables: Float) -> Self:
        """Decompose the milliseconds of sources over random architectures, (m, s)."""
        typical = np.median(tables, axis=0)
        scaled = tables / typical
        center = scaled.mean(axis=0)
        _, _, vt = np.linalg.svd(scaled - center, full_matrices=False)
        return cls(typical, center, vt[:_MOST_WAYS].T)

    def scores(self, tables: Float, count: int) -> Float:
        """Return how far architectures go along the first `count` ways, (n, count)."""
        out: Float = (tables / self.typical - self.center) @ self.ways[:, :count]
        return out


@dataclass(frozen=True, eq=False)
class TransferFit:
    """A fit on columns (n, s + p): tables of s sources, then one column an option.

    Attributes:
        sources: What the sources have in common.
        ways: How many ways are combined; 0 where a single source is scaled.
        single: That source.
        line: Its offset in ms and its scale.
        scores: Ridge on the ways, where there are any.
        residual: Ridge on the options, for what they leave over.
        least: No prediction is below this, ms.
        left_out: Prediction of each label by a fit without it, ms, shape (n,).
        alone: The same by the best single source.
    """

    sources: SourceTables
    ways: int
    single: int
    line: Float
    scores: LinearFit | None
    residual: LinearFit | None
    least: float
    left_out: Float
    alone: Float

    @classmethod
    def of(cls, x: Float, y: Float, sources: SourceTables) -> Self:
        """Fit columns x (n, s + p) to times y (n,), all positive."""
        ways = 0
        if len(y) >= ENOUGH:
            ways = min(max(len(y) // _A_WAY, 1), sources.ways.shape[1])
        part = _parts(len(y))
        left_out, alone = np.empty(len(y)), np.empty(len(y))
        for k in np.unique(part):
            held = part == k
            for out, count in ((left_out, ways), (alone, 0)):
                out[held] = cls._fitted(x[~held], y[~held], sources, count).predict(x[held])
        return cls._fitted(x, y, sources, ways, left_out, alone)

    @classmethod
    def _fitted(
        cls, x: Float, y: Float, sources: SourceTables, ways: int,
        left_out: Float | None = None, alone: Float | None = None,
    ) -> Self:  # fmt: skip
        count = len(sources.typical)
        tables, genes = x[:, :count], x[:, count:]
        least = least_of(y)
        none = np.empty(0)
        left_out, alone = none if left_out is None else left_out, none if alone is None else alone
        single = int(np.argmax(correlations(tables, y)))
        line = _line(tables[:, single], y)
        if ways == 0:
            return cls(sources, 0, single, line, None, None, least, left_out, alone)
        scores = LinearFit.of(sources.scores(tables, ways), y)
        over = y / scores.left_out
        residual = LinearFit.of(genes, over, log=True, penalties=_RESIDUAL_PENALTIES)
        return cls(sources, ways, single, line, scores, residual, least, left_out, alone)

    def predict(self, x: Float) -> Float:
        """Return milliseconds for columns x (n, s + p), shape (n,)."""
        count = len(self.sources.typical)
        if self.scores is None or self.residual is None:
            value = self.line[0] + self.line[1] * x[:, self.single]
        else:
            scores = _in_one_order(self.sources, x[:, :count], self.ways)
            value = self.scores.predict(scores) * self.residual.predict(x[:, count:])
        out: Float = np.maximum(value, self.least)
        return out

    def beyond(self, x: Float) -> NDArray[np.bool_]:
        """Where x (n, s + p) has more leverage on the ways than any label, shape (n,)."""
        if self.scores is None:
            return np.zeros(len(x), np.bool_)
        return self.scores.beyond(self.sources.scores(x[:, : len(self.sources.typical)], self.ways))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays that `of_arrays` reads back."""
        out = {name: np.asarray(getattr(self, name)) for name in _PLAIN}
        out |= nested("sources", self.sources.__dict__)
        for name in ("scores", "residual"):
            part: LinearFit | None = getattr(self, name)
            out |= {} if part is None else nested(name, part.to_arrays())
        return out

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Read `to_arrays` back."""
        scores, residual = under("scores", arrays), under("residual", arrays)
        return cls(
            SourceTables(**under("sources", arrays)), int(arrays["ways"]), int(arrays["single"]),
            arrays["line"], LinearFit.of_arrays(scores) if scores else None,
            LinearFit.of_arrays(residual) if residual else None, float(arrays["least"]),
            arrays["left_out"], arrays["alone"],
        )  # fmt: skip


_PLAIN = ("ways", "single", "line", "least", "left_out", "alone")


def correlations(tables: Float, y: Float) -> Float:
    """Pearson's correlation of ln y (n,) with the logarithms of each table (n, s), shape (s,).

    0 where a table does not vary.
    """
    a, b = np.log(tables), np.log(y)
    a, b = a - a.mean(axis=0), b - b.mean()
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum())
    out: Float = np.divide(b @ a, scale, out=np.zeros(a.shape[1]), where=scale > 0)
    return out


def _line(table: Float, y: Float) -> Float:
    """Offset and scale of least squared relative error; a scale below 0 becomes 0, an offset too.

    A negative offset says that small networks take no time, which no device does.
    """
    rows = np.stack([1.0 / y, table / y], axis=1)
    found = np.asarray(np.linalg.lstsq(rows, np.ones(len(y)), rcond=None)[0], np.float64)
    if found[1] <= 0:
        return np.array([float((1.0 / y).sum() / (1.0 / y**2).sum()), 0.0])
    if found[0] < 0:
        ratio = table / y
        return np.array([0.0, float(ratio.sum() / (ratio**2).sum())])
    return found


def _in_one_order(sources: SourceTables, tables: Float, count: int) -> Float:
    """`SourceTables.scores` without a matrix product, whose last bits depend on n."""
    scaled = tables / sources.typical - sources.center
    out: Float = np.einsum("ij,jk->ik", scaled, sources.ways[:, :count])
    return out


def _parts(n: int) -> NDArray[np.int64]:
    """Which labels are left out together, (n,): each alone, or one of twenty parts."""
    return np.arange(n) % (n if n <= _ALONE else _PARTS)
