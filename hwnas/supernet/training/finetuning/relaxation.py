"""Stage-wise optimization: parameters of a relaxed architecture have an optimizer of their own.

First the weights alone (`warmup`): fresh low-rank adapters give their architecture no gradient.
Then each step trains first the architecture on held-out images of the training split, with the
weights frozen, and then the weights on the others, with the architecture frozen: first-order
DARTS (Liu et al., 2019), whose Adam (betas 0.5 and 0.999) and weight decay it has. At the end the
architecture stays, all images train the weights, and adapters that anneal go to their final form:
`anneal(t)` with t from 0 to 1, so that the last steps train that form. The shares are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import nn

from hwnas.adapters import WeightAdapter
from hwnas.config.finetuning import ArchConfig
from hwnas.supernet.training.distributed import World

__all__ = ["Clock", "Relaxation", "RelaxationPhase"]

RelaxationPhase = Literal["warmup", "alternate", "frozen"]
_BETAS = (0.5, 0.999)
_ANNEALED = 0.75  # of the steps with a frozen architecture


class Clock(nn.Module):
    """Counts the steps of a stage, in its checkpoint too."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.count: torch.Tensor
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @property
    def done(self) -> float:
        """The share of the steps that are done."""
        return int(self.count) / self.steps

    def tick(self) -> None:
        """Count one step."""
        self.count.add_(1)


class Relaxation(nn.Module):
    """The architecture's parameters, their Adam, and when it steps.

    Values and moments are buffers, so that a checkpoint of the stage holds them; call `restore`
    before the parameters are used.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], adapters: Sequence[WeightAdapter],
        config: ArchConfig,
    ) -> None:  # fmt: skip
        super().__init__()
        self.config = config
        # not as modules or parameters, which they are elsewhere
        self._parameters_of, self._adapters = tuple(parameters), tuple(adapters)
        self._adam = torch.optim.Adam(
            self._parameters_of, lr=config.rate, betas=_BETAS, weight_decay=config.weight_decay
        )
        for number, parameter in enumerate(self._parameters_of):
            self.register_buffer(f"value_{number}", parameter.detach().clone())
            state = {
                "step": torch.zeros(()),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
            for name, value in state.items():
                self.register_buffer(f"{name}_{number}", value)
            self._adam.state[parameter] = state  # changed in place

    @torch.no_grad()
    def restore(self) -> None:
        """Give the parameters the values that are kept."""
        for number, parameter in enumerate(self._parameters_of):
            parameter.copy_(self.get_buffer(f"value_{number}"))

    def phase(self, done: float) -> RelaxationPhase:
        """What happens after the share `done` of the steps."""
        if done < self.config.warmup:
            return "warmup"
        return "alternate" if done < 1 - self.config.frozen else "frozen"

    def anneal(self, done: float) -> None:
        """Tell the adapters that anneal how far they are.

        0 until the architecture is frozen, 1 after three quarters of the steps with it frozen.
        """
        if not self.config.anneal:
            return
        last = self.config.frozen
        t = (done - 1 + last) / (_ANNEALED * last) if last else float(done >= 1)
        for adapter in self._adapters:
            tell = getattr(adapter, "anneal", None)
            if tell is not None:
                tell(min(max(t, 0.0), 1.0))

    def step(
        self, loss: Callable[[], torch.Tensor], weights: Sequence[nn.Parameter], world: World
    ) -> None:
        """Train the architecture on a loss; `weights` get no gradient and none is computed."""
        for parameter in weights:
            parameter.requires_grad_(False)
        for parameter in self._parameters_of:
            parameter.requires_grad_(True)
        try:
            loss().backward()  # type: ignore[no-untyped-call]
            world.average_gradients(list(self._parameters_of))
            gradients = [p.grad for p in self._parameters_of if p.grad is not None]
            if all(bool(torch.isfinite(g).all()) for g in gradients):
                self._adam.step()
        finally:
            self.rest()
            for parameter in weights:
                parameter.requires_grad_(True)
        with torch.no_grad():
            for number, parameter in enumerate(self._parameters_of):
                self.get_buffer(f"value_{number}").copy_(parameter)

    def rest(self) -> None:
        """Let the architecture be, as in a step of the weights."""
        for parameter in self._parameters_of:
            parameter.grad = None
            parameter.requires_grad_(False)
