"""Adapters for the tests: a transform, a branch, and two that break what a test tells them to."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hwnas.adapters import MatrixSlice, NotFoldable, WeightAdapter


class RowGain(WeightAdapter):
    """Multiplies each row by a trained factor."""

    role = "transform"

    def __init__(self, whole: MatrixSlice, *, rng: torch.Generator) -> None:
        super().__init__(whole)
        del rng
        self.gain = nn.Parameter(torch.ones(whole.shape[0]))

    def transform(self, weight: torch.Tensor, part: MatrixSlice) -> torch.Tensor:
        return weight * part.rows(self.gain)[:, None]


class Breaking(WeightAdapter):
    """A whole matrix as the delta, or what `fault` makes of it."""

    def __init__(self, whole: MatrixSlice, *, rng: torch.Generator, fault: str = "") -> None:
        super().__init__(whole)
        self.fault = fault
        start = torch.rand(whole.shape, generator=rng) if fault == "start" else 0
        if fault == "random":
            start = torch.rand(whole.shape) * 1e-9
        self.matrix = nn.Parameter(torch.zeros(whole.shape) + start)
        self.unused = nn.Parameter(torch.zeros(2)) if fault == "unused" else None
        self.hidden = torch.zeros(())
        self.register_buffer("count", torch.zeros(()))
        if fault == "role":
            self.role: Any = "sideways"

    def delta(self, part: MatrixSlice) -> torch.Tensor:
        found = part.matrix(self.matrix)
        if self.fault == "shape":
            return found.t()
        if self.fault == "slice":
            return found - found.mean()
        if self.fault == "state":
            return found + self.hidden
        if self.fault == "counts":
            self.count += 1
        return found

    @property
    def has_product(self) -> bool:  # type: ignore[override]
        return self.fault == "product"

    def product(self, x: torch.Tensor, part: MatrixSlice) -> torch.Tensor:
        return x @ self.delta(part).t() * 1.01

    def fold(self) -> torch.Tensor:
        if self.fault == "refusal":
            raise NotFoldable("not today")
        return self.matrix * 2 if self.fault == "fold" else super().fold()

    def fit(self, weight: torch.Tensor, gradient: torch.Tensor | None = None) -> None:
        if self.fault == "fit":
            weight.zero_()
        if self.fault == "gradient" and gradient is not None:
            gradient.zero_()

    def trainable_groups(self) -> dict[str, list[nn.Parameter]]:
        return {} if self.fault == "groups" else super().trainable_groups()


class TokenBranch(WeightAdapter):
    """A matrix beside the layer, which folds into it; or what `fault` makes of it."""

    role = "branch"

    def __init__(self, whole: MatrixSlice, *, rng: torch.Generator, fault: str = "") -> None:
        super().__init__(whole)
        self.fault = fault
        start = torch.rand(whole.shape, generator=rng) if fault == "start" else 0
        self.matrix = nn.Parameter(torch.zeros(whole.shape) + start)
        self.unused = nn.Parameter(torch.zeros(2)) if fault == "unused" else None
        self.hidden = 0.0
        self.last: torch.Tensor | None = None

    def branch(self, x: torch.Tensor, part: MatrixSlice) -> torch.Tensor:
        if self.fault == "images":
            batch, height, width, _ = x.shape
            x = x.reshape(batch, height, width, -1)
        if self.fault == "input":
            x.mul_(1.5)
        y = x @ part.matrix(self.matrix).t()
        if self.fault == "graph":
            self.last = y
        if self.fault == "noise":
            self.hidden += 1e-3
        return y.flatten(0, -2) if self.fault == "shape" else y + self.hidden

    def fold(self) -> torch.Tensor:
        if self.fault == "residual":
            raise NotFoldable("not today", 7.0)
        return self.matrix * 2 if self.fault == "fold" else self.matrix.detach()

    def auxiliary_loss(self) -> torch.Tensor | None:
        return self.matrix if self.fault == "loss" else None
