"""The candidate operations of a NAS-LoRA cell, stride 1 and as many channels out as in.

The primitives of DARTS (Liu et al., 2019, and `genotypes.py`, `operations.py` of its code) without
batch norm, since fine-tuning of SAM sees one image at a time; average pooling does not count what
is padded. NAS-LoRA's own list is not known to us: the sets are ours.

Annealing: a kernel keeps its centre, its other taps are multiplied by `off`; a pool goes over to
the identity. At `off` = 0 each operation reads its own token and no other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

__all__ = ["OPERATIONS", "OP_SETS", "Operation", "Surroundings"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an operation sees of other tokens: `off` (), 1 for all and 0 for nothing.

    `real` (B, 1, H, W) is 0 at padded tokens, which pools leave out.
    """

    off: torch.Tensor
    real: torch.Tensor


class Operation(nn.Module):
    """One candidate; maps (B, C, H, W) to the same shape.

    `local`: it reads its own token only. `linear`: it is a linear map. `anneals`: with `off` = 0
    it is local.
    """

    local = True
    linear = True
    anneals = True

    def forward(self, maps: torch.Tensor, around: Surroundings) -> torch.Tensor:
        raise NotImplementedError


class Zero(Operation):
    """`none` of DARTS."""

    def forward(self, maps: torch.Tensor, around: Surroundings) -> torch.Tensor:
        return torch.zeros_like(maps)


class Skip(Operation):
    """The identity."""

    def forward(self, maps: torch.Tensor, around: Surroundings) -> torch.Tensor:
        return maps


class ChannelScale(Operation):
    """One factor a channel, 1 at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, maps: torch.Tensor, around: Surroundings) -> torch.Tensor:
        return maps * self.factor


class Convolution(Operation):
    """k x k, of one group or of one a channel (`depthwise`); no bias."""

    def __init__(
        self, channels: int, size: int, rng: torch.Generator, *, depthwise: bool, dilation: int = 1
    ) -> None:
        super().__init__()
        self.local = size == 1
        self.groups, self.dilation = channels if depthwise else 1, dilation
        fan_in = (1 if depthwise else channels) * size * size
        drawn = torch.rand(channels, fan_in // size**2, size, size, generator=rng) * 2 - 1
        self.kernel = nn.Parameter(drawn / math.sqrt(fan_in))  # Kaiming-uniform, a = sqrt(5)
        centre = functional.pad(torch.ones(1, 1, 1, 1), (size // 2,) * 4)
        self.register_buffer("centre", centre, persistent=False)
        self.centre: torch.Tensor

    def forward(self, maps: torch.Tensor, around: Surroundings) -> torch.Tensor:
        kernel: torch.Tensor = self.kernel
        if not self.local:
            kernel = kernel * (around.off + (1 - around.off) * self.centre)
        padding = self.dilation * (kernel.shape[-1] // 2)
        return functional.conv2d(
            maps, kernel, padding=padding, dilation=self.dilation, groups=self.groups
        )


class AveragePool(Operation):
    """The mean of the real tokens among 3 x 3; annealed, the identity."""

    local = False

    def forward(self, maps: torch.Tensor, around: Surroundings) -> torch.Tensor:
        share = functional.avg_pool2d(around.real, 3, stride=1, padding=1)
        total = functional.avg_pool2d(maps * around.real, 3, stride=1, padding=1)
        mean = total / share.clamp(min=1 / 9)
        return around.off * mean + (1 - around.off) * maps


class MaxPool(Operation):
    """The largest of the real tokens among 3 x 3; neither linear nor annealed."""

    local = linear = anneals = False

    def forward(self, maps: torch.Tensor, around: Surroundings) -> torch.Tensor:
        hidden = maps.masked_fill(around.real == 0, -torch.inf)
        found = functional.max_pool2d(hidden, 3, stride=1, padding=1)
        return found.masked_fill(found == -torch.inf, 0)


class Chain(Operation):
    """Operations one after the other."""

    def __init__(self, *steps: Operation) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.local = all(step.local for step in steps)

    def forward(self, maps: torch.Tensor, around: Surroundings) -> torch.Tensor:
        for step in self.steps:
            maps = step(maps, around)
        return maps


class Normed(Operation):
    """An operation in the style of DARTS: ReLU before it, a norm without weights after it."""

    local = linear = anneals = False

    def __init__(self, inner: Operation) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, maps: torch.Tensor, around: Surroundings) -> torch.Tensor:
        return functional.group_norm(self.inner(functional.relu(maps), around), 1)


def separable(
    channels: int, size: int, rng: torch.Generator, *, dilation: int = 1, times: int = 1
) -> Operation:
    """A kernel a channel and a 1 x 1 over the channels, `times` in a row."""
    steps: list[Operation] = []
    for _ in range(times):
        steps.append(Convolution(channels, size, rng, depthwise=True, dilation=dilation))
        steps.append(Convolution(channels, 1, rng, depthwise=False))
    return Chain(*steps)


OPERATIONS: dict[str, Callable[[int, torch.Generator], Operation]] = {
    "none": lambda c, rng: Zero(),
    "skip": lambda c, rng: Skip(),
    "scale": lambda c, rng: ChannelScale(c),
    "avg3": lambda c, rng: AveragePool(),
    "max3": lambda c, rng: MaxPool(),
    "conv1": lambda c, rng: Convolution(c, 1, rng, depthwise=False),
    "conv3": lambda c, rng: Convolution(c, 3, rng, depthwise=False),
    "dwsep3": lambda c, rng: separable(c, 3, rng),
    "dwsep5": lambda c, rng: separable(c, 5, rng),
    "dil3": lambda c, rng: separable(c, 3, rng, dilation=2),
    "dil5": lambda c, rng: separable(c, 5, rng, dilation=2),
    "sep3": lambda c, rng: separable(c, 3, rng, times=2),
    "sep5": lambda c, rng: separable(c, 5, rng, times=2),
}

OP_SETS: dict[str, tuple[str, ...]] = {
    "light": ("none", "skip", "avg3", "dwsep3", "dwsep5", "dil3", "conv1", "conv3"),
    "darts": ("none", "max3", "avg3", "skip", "sep3", "sep5", "dil3", "dil5"),
    "token": ("none", "skip", "conv1", "scale"),
}
"""`darts` are its eight primitives; `token` reads one token only, and folds into a weight."""
