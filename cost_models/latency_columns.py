"""What a latency is regressed on: columns, and how times are fitted to them.

Most are summed with weights; `prior` says what these are before anything is learned. Columns of
genes belong to the whole space, so that an arch of a restricted space has the same row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cost_models.latency_blocks import BlockFit, BlockLayout
from cost_models.latency_fit import Base
from cost_models.latency_linear import LinearFit
from cost_models.quality_features import QualityFeatures
from cost_models.roofline_layers import LayerTimes, Rates, is_compute
from hwnas.cost import CostContext, SlotTables
from hwnas.device import DeviceProfile
from hwnas.space import Arch, Archs
from hwnas.workload.layers import KINDS
from hwnas.workload.table import LayerTable

__all__ = [
    "BlockColumns",
    "Columns",
    "GeneColumns",
    "LayerColumns",
    "LinearColumns",
    "RooflineColumns",
    "is_time",
]

Float = NDArray[np.float64]
_COMPUTE = ("conv", "dwconv", "linear", "matmul")
_SIMPLE = tuple(kind for kind in KINDS if kind not in _COMPUTE)
_GIGA, _MEGA, _MILLI = 1e9, 1e6, 1e3
_SIZES = ("total GMACs", "total MB")
_WIDTHS = ((0, 4), (4, 8), (8, 64))  # bits above the first, up to the second


class Columns(Protocol):
    """A matrix for archs, and how times are regressed on it."""

    @property
    def name(self) -> str: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    def matrix(self, archs: Sequence[Arch]) -> Float:
        """Return the columns, shape (n, p)."""
        ...

    def fit(self, x: Float, y: Float) -> Base:
        """Fit columns x (n, p) to milliseconds y (n,)."""
        ...

    def fitted(self, arrays: Mapping[str, NDArray[Any]]) -> Base:
        """Read what a fit's `to_arrays` gave."""
        ...


class LinearColumns(ABC):
    """Columns that are regressed on linearly, from weights that are known before (`prior`)."""

    prior: Float
    log = False

    @abstractmethod
    def matrix(self, archs: Sequence[Arch]) -> Float:
        """Return the columns, shape (n, p)."""

    def fit(self, x: Float, y: Float) -> LinearFit:
        """Fit columns x (n, p) to milliseconds y (n,)."""
        return LinearFit.of(x, y, log=self.log, prior=self.prior)

    def fitted(self, arrays: Mapping[str, NDArray[Any]]) -> LinearFit:
        """Read what a fit's `to_arrays` gave."""
        return LinearFit.of_arrays(arrays)


class GeneColumns(LinearColumns):
    """One column for each option of each gene: an additive table, or (`log`) a product of factors.

    An absent gene gives zeros.
    """

    def __init__(self, context: CostContext, *, log: bool) -> None:
        self._space = context.space
        self._features = QualityFeatures(context.space)
        self.whole = self._features.whole
        self.name = "table of factors of genes" if log else "additive table of genes"
        self.log = log
        searched = [c for c, gene in enumerate(self.whole.genes) if len(gene.options) > 1]
        self._columns = searched
        self.names: tuple[str, ...] = tuple(
            f"{self.whole.genes[c].name}={o}" for c in searched for o in self.whole.genes[c].options
        )
        self.prior: Float = np.zeros(len(self.names))

    def matrix(self, archs: Sequence[Arch]) -> Float:
        """Return ones where an arch has an option, shape (n, p)."""
        own = self._features.in_whole(Archs.of(self._space, archs)).matrix
        parts = [_indicators(own[:, c], len(self.whole.genes[c].options)) for c in self._columns]
        return np.concatenate([np.zeros((len(own), 0)), *parts], axis=1)


class BlockColumns:
    """Indexes of the options of genes; they are regressed on by `cost_models.latency_blocks`."""

    name = "blocks of genes"

    def __init__(self, context: CostContext) -> None:
        self._space = context.space
        self._layout = BlockLayout(context.space)
        self.names: tuple[str, ...] = tuple(g.name for g in context.space.whole.genes)

    def matrix(self, archs: Sequence[Arch]) -> Float:
        """Return option indexes as floats, -1 where a gene is absent, shape (n, genes)."""
        own = self._layout.features.in_whole(Archs.of(self._space, archs))
        return own.matrix.astype(np.float64)

    def fit(self, x: Float, y: Float) -> BlockFit:
        """Fit sums over blocks of products within them."""
        return BlockFit.of(x, y, self._layout)

    def fitted(self, arrays: Mapping[str, NDArray[Any]]) -> BlockFit:
        """Read what a fit's `to_arrays` gave."""
        return BlockFit.of_arrays(arrays, self._layout)


class LayerColumns(LinearColumns):
    """Sums over layers: MACs by kind and width of the weights, bytes by kind, counts of layers."""

    name = "sums over layers"

    def __init__(self, context: CostContext, *, prompts: int) -> None:
        self.names = _layer_names()
        self.prior: Float = np.zeros(len(self.names))
        self._tables = SlotTables(
            context, partial(_layer_sums, prompts=prompts), width=len(self.names)
        )

    def matrix(self, archs: Sequence[Arch]) -> Float:
        """Return GMACs, MB and counts, shape (n, p)."""
        return self._tables.totals(archs)

    def sizes(self, archs: Sequence[Arch]) -> Float:
        """Return total GMACs and MB alone, shape (n, 2)."""
        columns = [self._tables.totals(archs, self.names.index(name)) for name in _SIZES]
        return np.stack(columns, axis=1)

    def sizes_of(self, matrix: Float) -> Float:
        """Return the same two columns of `matrix` (n, p)."""
        return matrix[:, [self.names.index(name) for name in _SIZES]]


class RooflineColumns(LinearColumns):
    """Milliseconds of the roofline by kind of layer and data type; without MACs: `other`."""

    name = "roofline by kind"

    def __init__(self, context: CostContext, *, prompts: int) -> None:
        device: DeviceProfile = context.require("device", by="latency")
        dtypes = tuple(dict.fromkeys(pair.runs_as for pair in device.spec.pairs))
        self._dtypes = (*dtypes, *(d for d in (device.spec.fallback,) if d and d not in dtypes))
        pairs = [f"{kind} {dtype} ms" for kind in _COMPUTE for dtype in self._dtypes]
        self.names: tuple[str, ...] = (*pairs, "other ms")
        self.prior: Float = np.ones(len(self.names))
        measure = partial(_roofline_ms, device=device, dtypes=self._dtypes, prompts=prompts)
        self._tables = SlotTables(context, measure, width=len(self.names))

    def matrix(self, archs: Sequence[Arch]) -> Float:
        """Return milliseconds, shape (n, p)."""
        return self._tables.totals(archs)


def is_time(name: str) -> bool:
    """Whether a column is one of the times that add up to that of the network."""
    return name.endswith(" ms") and not name.startswith("not measured")


def _indicators(index: NDArray[Any], options: int) -> Float:
    """Return (n, options); -1 gives a row of zeros."""
    coded = np.concatenate([np.eye(options), np.zeros((1, options))])
    out: Float = coded[index]
    return out


def _layer_names() -> tuple[str, ...]:
    widths = ("w to 4 bits", "w 5 to 8 bits", "w float")
    macs = [f"{kind} GMACs, {width}" for kind in _COMPUTE for width in widths]
    traffic = [f"{kind} {what} MB" for kind in _COMPUTE for what in ("weight", "activation")]
    simple = [f"{kind} MB" for kind in _SIMPLE]
    return (*macs, *traffic, *simple, "layers with MACs", "layers without MACs", *_SIZES)


def _layer_sums(table: LayerTable, prompts: int) -> Float:
    runs = table.runs(prompts)
    macs = table.macs * runs / _GIGA
    weight, activation = _traffic(table, runs)
    columns = []
    for kind in _COMPUTE:
        of_kind = table.is_kind(kind)
        for low, high in _WIDTHS:
            columns.append(macs * (of_kind & (table.w_bits > low) & (table.w_bits <= high)))
    for kind in _COMPUTE:
        of_kind = table.is_kind(kind)
        columns += [weight * of_kind, activation * of_kind]
    columns += [(weight + activation) * table.is_kind(kind) for kind in _SIMPLE]
    compute = is_compute(table)
    counts = [(runs * rows).astype(np.float64) for rows in (compute, ~compute)]
    return np.stack([*columns, *counts, macs, weight + activation], axis=1)


def _traffic(table: LayerTable, runs: NDArray[np.int64]) -> tuple[Float, Float]:
    """Megabytes of weights and of activations of each layer, over all of its runs."""
    bits = (
        table.in_elems * table.a_bits
        + table.extra_in_elems * table.w_bits
        + table.out_elems * table.out_bits
    )
    return table.weight_bytes() * runs / _MEGA, bits * runs / 8.0 / _MEGA


def _roofline_ms(
    table: LayerTable, device: DeviceProfile, dtypes: tuple[str, ...], prompts: int
) -> Float:
    layers = LayerTimes.of(table, device)
    ms = layers.seconds(Rates(device, 0)) * _MILLI * table.runs(prompts)
    compute = is_compute(table)
    names = layers.dtypes or ("none",)
    columns = []
    for kind in _COMPUTE:
        of_kind = compute & table.is_kind(kind)
        for dtype in dtypes:
            code = names.index(dtype) if dtype in names else -1
            columns.append(ms * (of_kind & (layers.dtype_of == code)))
    return np.stack([*columns, ms * ~compute], axis=1)
