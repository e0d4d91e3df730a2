"""Adapters for the tests: one transform, and one that breaks what a test tells it to."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hwnas.adapters import MatrixSlice, WeightAdapter


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
            self.role: Any = "branch"

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

    def trainable_groups(self) -> dict[str, list[nn.Parameter]]:
        return {} if self.fault == "groups" else super().trainable_groups()
