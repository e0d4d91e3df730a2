"""What a probe answers to images: which units are active, and how far a small step leads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hwnas.errors import CostError
from hwnas.supernet.probing.gradients import as_in_training
from hwnas.supernet.probing.linear_forms import norms_of
from hwnas.supernet.probing.probe import Probe

__all__ = ["code_agreement", "log_step_response"]

Float = NDArray[np.float64]
_ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU,
    nn.Mish, nn.Hardswish,
)  # fmt: skip


def code_agreement(probe: Probe, images: torch.Tensor) -> Float:
    """How many units two images switch alike, for each pair: (B, B).

    A unit is on where the input of its activation is above 0. K = sum over layers of
    x x' + (1 - x) (1 - x)' with x (B, units) in {0, 1}.

    Raises:
        CostError: the probe has no activation.
    """
    parts = probe.activations or tuple(
        part for part in probe.module.modules() if isinstance(part, _ACTIVATIONS)
    )
    if not parts:
        raise CostError("the network has no activations; name them in Probe.activations")
    total = np.zeros((len(images), len(images)))

    def count(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        on = (inputs[0].detach() > 0).flatten(1).float()
        alike = on @ on.t() + (1 - on) @ (1 - on).t()
        np.add(total, alike.double().cpu().numpy(), out=total)

    # Not under no_grad: there the encoder's MLP sees its tokens in pieces, not image by image.
    probe.module.requires_grad_(False)
    with as_in_training(probe), _watched(parts, count):
        probe.module(images)
    return total


@torch.no_grad()
def log_step_response(probe: Probe, seed: int, *, images: int, step: float) -> float:
    """How far a small step of the image moves the map, and the scale that norms take away.

    log E |f(x) - f(x + step e)| + sum over norms of log sqrt(mean variance of their input)

    f is the map before pooling, | | its Euclidean norm, x and e standard normal images. Batch
    norms: the variance of each channel over the batch; other norms: over what they normalize.

    Raises:
        CostError: the step leads nowhere, or to something that is not finite.
    """
    rng = torch.Generator().manual_seed(seed % 2**63)
    x, e = torch.randn(2, images, *probe.input_shape, generator=rng).to(probe.device)
    scales: list[float] = []

    def measure(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        scales.append(0.5 * math.log(max(_mean_variance(module, inputs[0]), 1e-16)))

    with as_in_training(probe):
        with _watched(tuple(norms_of(probe.module)), measure):
            before = probe.map_of(x)
        apart = (before - probe.map_of(x + step * e)).flatten(1).double().norm(dim=1)
    distance = float(apart.mean())
    if not (math.isfinite(distance) and distance > 0):
        raise CostError(f"the mean distance of the maps is {distance}; expected a positive number")
    return math.log(distance) + sum(scales)


@contextmanager
def _watched(
    parts: tuple[nn.Module, ...], see: Callable[[nn.Module, tuple[Any, ...]], None]
) -> Iterator[None]:
    handles = [part.register_forward_pre_hook(see) for part in dict.fromkeys(parts)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _mean_variance(module: nn.Module, x: torch.Tensor) -> float:
    wide = x.double()
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        own = wide.flatten(-len(module.normalized_shape))
    elif isinstance(module, nn.GroupNorm):
        own = wide.reshape(len(x), module.num_groups, -1)
    elif isinstance(module, nn.modules.instancenorm._InstanceNorm):
        own = wide.flatten(2)
    else:
        own = wide.transpose(0, 1).flatten(1)  # (C, B·H·W)
    return float(own.var(-1, unbiased=False).mean())
