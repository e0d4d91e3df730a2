"""Everything that the times of a space may be regressed on; made when it is first asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cost_models.latency_columns import (
    BlockColumns,
    Columns,
    GeneColumns,
    LayerColumns,
    RooflineColumns,
)
from cost_models.quality_features import QualityFeatures
from hwnas.cost import CostContext, CostModel
from hwnas.cost.lowering import lower
from hwnas.errors import HwnasError
from hwnas.space import Archs

if TYPE_CHECKING:
    from cost_models.latency_kernels import KernelTimes

__all__ = ["Bases"]

Float = NDArray[np.float64]
Single = NDArray[np.float32]


class Bases:
    """Columns by name, and the matrices that every latency predictor needs besides.

    Args:
        context: space, and where they are known the device and a store of measured kernels.
        prompts: how many prompts a measured time includes.
        kernels: times of kernels; read from the store of the context by default.
        sources: predictors of other devices; where there are any, they are the only base.
    """

    def __init__(
        self,
        context: CostContext,
        *,
        prompts: int,
        kernels: KernelTimes | None = None,
        sources: Mapping[str, CostModel] | None = None,
    ) -> None:
        self._context = context
        self._prompts = prompts
        self._sources = sources or {}
        self._kernels = kernels
        self._features = QualityFeatures(context.space)
        self.whole = self._features.whole

    @cached_property
    def kernels(self) -> KernelTimes | None:
        """Times of kernels; None where none is known."""
        if self._kernels is None and self._context.store is not None:
            from cost_models.latency_kernels import KernelTimes

            return KernelTimes.fitted(self._context)
        return self._kernels

    @cached_property
    def one_hot(self) -> GeneColumns:
        """One column an option of the whole space."""
        return GeneColumns(self._context, log=False)

    @cached_property
    def layers(self) -> LayerColumns | None:
        """Sums over layers; None where the space has none."""
        space = self._context.space
        try:
            lower(space, space.smallest())
        except HwnasError:
            return None
        return LayerColumns(self._context, prompts=self._prompts)

    @cached_property
    def columns(self) -> Mapping[str, Columns]:
        """Every base that space and device allow, in the order of preference."""
        found: list[Columns] = []
        if self._sources:
            from cost_models.latency_sources import SourceColumns

            found.append(SourceColumns(self._context, self._sources, self.one_hot))
        elif self.layers is not None:
            if self._context.device is not None:
                found += self._kernel_columns()
                found.append(RooflineColumns(self._context, prompts=self._prompts))
            found.append(self.layers)
        else:
            found.append(BlockColumns(self._context))
        if not self._sources:
            found += [self.one_hot, GeneColumns(self._context, log=True)]
        return {columns.name: columns for columns in found}

    def _kernel_columns(self) -> Sequence[Columns]:
        if self.kernels is None:
            return []
        from cost_models.latency_kernels import KernelColumns

        return [KernelColumns(self._context, self.kernels, prompts=self._prompts)]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """What trees see, besides ln of the base's value."""
        if self.layers is None:
            return self._features.names
        return (*(gene.name for gene in self.whole.genes), *self.layers.names)

    def seen_by_trees(self, own: Archs, sums: Float | None = None) -> Single:
        """Return the columns `feature_names`, shape (n, f).

        Trees only compare, so the index of an option serves as well as its value. `sums` are the
        columns of `layers`, where they are known already.
        """
        if self.layers is None:
            return self._features.matrix(own).astype(np.float32)
        genes = self.options(own)
        found = self.layers.matrix(own) if sums is None else sums
        out = np.empty((len(own), genes.shape[1] + found.shape[1]), np.float32)
        out[:, : genes.shape[1]] = genes
        out[:, genes.shape[1] :] = found
        return out

    def sizes(self, own: Archs, sums: Float | None = None) -> Float:
        """Total GMACs and MB, (n, 2); no columns where the space has no layers."""
        if self.layers is None:
            return np.zeros((len(own), 0))
        return self.layers.sizes(own) if sums is None else self.layers.sizes_of(sums)

    def options(self, own: Archs) -> NDArray[np.int16]:
        """Indexes of the options in the whole space, (n, genes), -1 where a gene is absent."""
        return self._features.in_whole(own).matrix
