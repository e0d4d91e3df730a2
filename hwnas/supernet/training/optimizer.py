"""AdamW over groups of parameters, with a moving average of what it trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from hwnas.errors import ConfigError
from hwnas.supernet.training.distributed import World
from hwnas.supernet.training.sharding import Owners
from hwnas.supernet.training.stage import Stage

__all__ = ["Optimizer"]

_BETAS = (0.9, 0.999)
_MOMENTS = ("exp_avg", "exp_avg_sq")


class Optimizer:
    """AdamW (beta 0.9 and 0.999) of a stage, and the moving average of its weights.

    Where the world shards, a process has moments and averages of its own parameters only; the
    weights are the same everywhere.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), as in torch.
    """

    def __init__(self, stage: Stage, world: World) -> None:
        """Take over the parameters of `stage`, which begin to require gradients.

        Raises:
            ConfigError: a parameter is in two groups, a name is used twice, or there are none.
        """
        self._stage = stage
        self.parameters = _named(stage)
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
        self._owners = Owners({k: p.numel() for k, p in self.parameters.items()}, world)
        self._mine = {k: p for k, p in self.parameters.items() if self._owners.mine(k)}
        self._average = {k: p.detach().clone() for k, p in self._mine.items()}
        self._clipped = [p for g in stage.groups if g.clip for _, p in g.parameters]
        self._adam = torch.optim.AdamW(
            [
                {
                    "params": [p for name, p in g.parameters if self._owners.mine(name)],
                    "weight_decay": g.weight_decay,
                }
                for g in stage.groups
            ],
            betas=_BETAS,
        )

    def clear(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def step(self, factor: float, number: int) -> float | None:
        """Take step `number` at `factor` times the peak rates; returns the norm before clipping.

        If a gradient is not finite nothing changes and None is returned. The average follows with
        a decay that grows to the stage's `ema`, so that the first steps do not linger.
        """
        norm = torch.nn.utils.clip_grad_norm_(self._clipped, self._stage.clip)
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        if not bool(torch.isfinite(norm + torch.nn.utils.get_total_norm(gradients))):
            return None
        for group, source in zip(self._adam.param_groups, self._stage.groups, strict=True):
            group["lr"] = source.rate * factor
        self._adam.step()
        self._owners.spread(self.parameters)
        decay = min(self._stage.ema, (number + 1) / (number + 10))
        with torch.no_grad():
            for key, parameter in self._mine.items():
                self._average[key].lerp_(parameter, 1 - decay)
        return float(norm)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the parameters have their averages within the block."""
        own = {k: p.detach().clone() for k, p in self.parameters.items()}
        self.settle()
        try:
            yield
        finally:
            self._assign(own)

    def settle(self) -> None:
        """Give the parameters their averages for good."""
        self._assign(self._gathered(self._average))

    def state(self) -> dict[str, torch.Tensor]:
        """All tensors that are needed to go on: `weight.*`, `average.*`, moments, `step.*`.

        Every process calls it at the same time. A parameter that had no step yet has zeros, which
        is what AdamW begins with.
        """
        found = {f"weight.{k}": p.detach() for k, p in self.parameters.items()}
        found |= {f"average.{k}": v for k, v in self._gathered(self._average).items()}
        for kind in _MOMENTS:
            own = {
                k: self._adam.state[p].get(kind, torch.zeros_like(p)) for k, p in self._mine.items()
            }
            found |= {f"{kind}.{k}": v for k, v in self._gathered(own).items()}
        steps = {
            k: torch.full((1,), float(self._adam.state[p].get("step", 0.0)), device=p.device)
            for k, p in self.parameters.items()
        }
        self._owners.spread(steps)
        return found | {f"step.{k}": v for k, v in steps.items()}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over what `state` returned.

        Raises:
            KeyError, RuntimeError: names or shapes differ.
        """
        self._assign({k: state[f"weight.{k}"] for k in self.parameters})
        for key, parameter in self._mine.items():
            self._average[key].copy_(state[f"average.{key}"])
            # AdamW counts its steps on the CPU unless it is fused or captured.
            self._adam.state[parameter] = {"step": state[f"step.{key}"][0].clone()} | {
                kind: torch.empty_like(parameter).copy_(state[f"{kind}.{key}"]) for kind in _MOMENTS
            }

    def _gathered(self, own: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        everything = {
            k: own[k] if k in own else torch.empty_like(p).detach()
            for k, p in self.parameters.items()
        }
        self._owners.spread(everything)
        return everything

    def _assign(self, values: Mapping[str, torch.Tensor]) -> None:
        # copy_ raises the version of a tensor, which caches of derived tensors look at.
        with torch.no_grad():
            for key, parameter in self.parameters.items():
                parameter.copy_(values[key])


def _named(stage: Stage) -> dict[str, torch.nn.Parameter]:
    pairs = [(name, p) for group in stage.groups for name, p in group.parameters]
    if not pairs:
        raise ConfigError(f"stage {stage.name} trains no parameter; name one in a group")
    named = dict(pairs)
    if len(named) < len(pairs) or len({id(p) for p in named.values()}) < len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({n for n in named if names.count(n) > 1}) or ["under two names"]
        raise ConfigError(
            f"stage {stage.name}: a parameter is in more than one group ({', '.join(twice)}); "
            "a parameter has one rate"
        )
    return named
