"""Fresh weights for a network of any kind, by a generator of their own."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

__all__ = ["Law", "draw_weights"]

Law = Literal["kaiming", "gaussian"]


@torch.no_grad()
def draw_weights(module: nn.Module, seed: int, law: Law = "kaiming") -> None:
    """Draw the weights of every convolution and linear layer in place, with zero biases.

    `kaiming` is N(0, 2 / inputs), `gaussian` N(0, 1). Norms get scale 1 and shift 0, and forget
    their running statistics; other parameters, such as tables of positions, keep their values.
    """
    rng = torch.Generator().manual_seed(seed % 2**63)
    for part in module.modules():
        weight, bias = (getattr(part, name, None) for name in ("weight", "bias"))
        if isinstance(part, nn.Linear | nn.modules.conv._ConvNd):
            drawn = torch.empty(part.weight.shape)  # on the CPU: the same on every device
            if law == "kaiming":
                nn.init.kaiming_normal_(drawn, nonlinearity="relu", generator=rng)
            else:
                drawn.normal_(generator=rng)
            part.weight.copy_(drawn)
        elif isinstance(part, nn.modules.batchnorm._NormBase):  # batch and instance norms
            part.reset_running_stats()
            _fill(weight, 1.0)
        elif isinstance(part, nn.LayerNorm | nn.GroupNorm | nn.RMSNorm):
            _fill(weight, 1.0)
        else:
            continue
        _fill(bias, 0.0)


def _fill(parameter: torch.Tensor | None, value: float) -> None:
    if parameter is not None:
        parameter.fill_(value)
