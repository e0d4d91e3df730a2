"""A linear layer with adapters: their weights merged, their branches beside it."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from hwnas.adapters.contract import ROLES, MatrixSlice, WeightAdapter
from hwnas.adapters.layer_quantizer import LayerQuantizer
from hwnas.errors import ConfigError
from hwnas.quant.bits import FLOAT_BITS
from hwnas.quant.merged import MergedWeight, TrainableLinear

__all__ = ["AdaptedLinear"]


class AdaptedLinear(nn.Module):
    """Q(T(W + sum of deltas)) Q(x) + bias + sum of branches, W frozen; x is (..., I).

    `base` is the layer that it stands for, and stays as it is. Adapters have names, `active` are
    those that act. Without a quantizer nothing is rounded. Rows that are frozen (`freeze_rows`)
    are those of the base, or of `held`, whatever adapters say.
    """

    frozen: torch.Tensor | None
    held: torch.Tensor | None

    def __init__(
        self, base: nn.Linear, *, parts: int = 1, quantizer: LayerQuantizer | None = None
    ) -> None:
        super().__init__()
        if base.out_features % parts:
            raise ConfigError(
                f"a layer of {base.out_features} outputs has no {parts} equal parts; expected 3 "
                "for a fused qkv, else 1"
            )
        self.base = base
        self.whole = MatrixSlice(base.out_features // parts, base.in_features, parts)
        self.quantizer = quantizer
        self.adapters = nn.ModuleDict()
        self.active: tuple[str, ...] = ()
        self.register_buffer("frozen", None)
        self.register_buffer("held", None)

    @property
    def weight(self) -> torch.Tensor:
        """The frozen weight (O, I)."""
        return self.base.weight

    @property
    def bias(self) -> torch.Tensor | None:
        """The bias (O,) of the layer."""
        return self.base.bias

    @property
    def in_features(self) -> int:
        return self.base.in_features

    @property
    def out_features(self) -> int:
        return self.base.out_features

    def adapter(self, name: str) -> WeightAdapter:
        """The adapter of a name."""
        return cast(WeightAdapter, self.adapters[name])

    def acting(self, names: Iterable[str] | None = None) -> Iterator[WeightAdapter]:
        """The active adapters, or those of `names`, in the order in which they act."""
        found = [self.adapter(n) for n in (self.active if names is None else names)]
        yield from sorted(found, key=lambda adapter: ROLES.index(adapter.role))

    @torch.no_grad()
    def freeze_rows(self, rows: torch.Tensor, *, held: torch.Tensor | None = None) -> None:
        """Keep adapters off the outputs where `rows` (O,) is true; all false lets them act again.

        Those rows of the weight are the base's, or those of `held` (O, I): neither what adapters
        add nor a gradient reaches them, and branches add nothing there. A requires_grad could not
        do this, as q, k and v are one tensor. Both are kept in the state of the module.
        """
        if rows.shape != (self.out_features,) or rows.dtype != torch.bool:
            raise ConfigError(
                f"frozen rows: got {rows.dtype} of shape {tuple(rows.shape)}, expected "
                f"({self.out_features},) of bool, one for each output"
            )
        self.frozen = rows.to(self.weight.device)
        self.held = None if held is None else held.detach().clone()

    def effective_weight(self) -> torch.Tensor:
        """The weight (O, I) with everything that is no branch, before the quantizer."""
        weight = self.base.weight
        for adapter in self.acting():
            if adapter.role == "additive":
                weight = weight + adapter.delta(self.whole)
            elif adapter.role == "transform":
                weight = adapter.transform(weight, self.whole)
        return self._kept(weight)

    def folded_weight(self, names: Sequence[str]) -> torch.Tensor:
        """The weight (O, I) with the adapters of `names` in it for good.

        Raises:
            NotFoldable: one of them is a branch that no weight replaces.
        """
        weight = self.base.weight
        for adapter in self.acting(names):
            if adapter.role == "transform":
                weight = adapter.transform(weight, self.whole)
            else:
                weight = weight + adapter.fold()
        return self._kept(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        acting = list(self.acting())
        y = self._product(x, acting)
        branches = [adapter for adapter in acting if adapter.role == "branch"]
        if branches and self.quantizer is not None:  # they read what the layer reads
            x = self.quantizer.quantize_input(x)
        for adapter in branches:
            y = y + self._acting_part(adapter.branch(x, self.whole))
        return y

    def _kept(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight (O, I) with its frozen rows as they are to stay."""
        if self.frozen is None:
            return weight
        kept = self.base.weight if self.held is None else self.held
        return torch.where(self.frozen[:, None], kept.detach(), weight)

    def _acting_part(self, added: torch.Tensor) -> torch.Tensor:
        """What is added to the outputs (..., O), nothing where they are frozen."""
        return added if self.frozen is None else added.masked_fill(self.frozen, 0.0)

    def _product(self, x: torch.Tensor, acting: Sequence[WeightAdapter]) -> torch.Tensor:
        merged = [adapter for adapter in acting if adapter.role != "branch"]
        if self.quantizer is None and self.held is None:
            if not merged:
                return functional.linear(x, self.base.weight, self.base.bias)
            if all(adapter.has_product for adapter in merged):
                # cheaper than a merge, whose gradient is a whole matrix
                y = functional.linear(x, self.base.weight, self.base.bias)
                parts = (adapter.product(x, self.whole) for adapter in merged)
                return y + self._acting_part(functools.reduce(operator.add, parts))
        read = [self.base.weight, *(p for adapter in merged for p in adapter.parameters())]
        sources = tuple(p for p in read if p.requires_grad)
        bias = self.base.bias
        if bias is None:
            bias = torch.zeros(self.out_features, device=x.device)
        quantizer, elements = self.quantizer, x[0].numel()
        if quantizer is None:
            weight = MergedWeight(self.effective_weight, sources, None, FLOAT_BITS)
            return TrainableLinear(weight, bias, None, FLOAT_BITS, elements)(x)
        weight = MergedWeight(self.effective_weight, sources, quantizer.scale, quantizer.w_bits)
        return TrainableLinear(weight, bias, quantizer.range, quantizer.a_bits, elements)(x)
