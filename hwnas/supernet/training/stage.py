"""What a stage of training trains, how it computes a step, and how it judges itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hwnas.errors import ConfigError

__all__ = ["Figures", "ParameterGroup", "Share", "Stage"]

Figures = Mapping[str, "float | torch.Tensor"]


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a batch that this process computes: rows `rank::world`."""

    rank: int = 0
    world: int = 1

    def rows(self, count: int) -> slice:
        """The rows of a batch of `count`, as a slice; all shares have the same size.

        Raises:
            ConfigError: `count` is not a multiple of the number of processes.
        """
        if count % self.world:
            raise ConfigError(
                f"a batch of {count} cannot be shared equally by {self.world} processes; "
                f"take a multiple of {self.world}, or start fewer processes"
            )
        return slice(self.rank, count, self.world)


@dataclass(frozen=True, slots=True, eq=False)
class ParameterGroup:
    """Parameters that share a peak rate and a weight decay.

    Names are those of the stage's module. Only groups with `clip` enter the norm that is clipped.
    """

    name: str
    parameters: Sequence[tuple[str, torch.nn.Parameter]]
    rate: float
    weight_decay: float = 0.0
    clip: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """A stage of training; all but the parameters of `groups` stays as it is.

    `accumulate(rng, share)` draws a batch, computes the rows of its share, runs forward and
    backward itself (several subnets: gradients add up) and returns figures to log. A loss is a
    mean over the rows of the share: the engine averages gradients and figures over the processes.
    `rng` depends on the seed of the run, `number` and the step alone.

    `validate()` returns figures of the module as it is at the call: averaged weights, in eval
    mode. Every process calls it. The rate rises for the share `warmup` of the stage, then follows
    a cosine to zero; the stage ends after `steps` steps, or after `minutes` where that is sooner.
    `ema` is the decay of the moving average of the weights, `clip` the largest norm of a gradient.
    """

    name: str
    number: int
    module: torch.nn.Module
    groups: Sequence[ParameterGroup]
    steps: int
    accumulate: Callable[[np.random.Generator, Share], Figures]
    validate: Callable[[], Mapping[str, float]]
    warmup: float = 0.02
    ema: float = 0.999
    clip: float = 1.0
    minutes: float | None = None
    validate_every: int = 500
    log_every: int = 10
