"""Mean absolute gradients of frozen weights, which some masks are chosen by."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from hwnas.adapters.attaching import SAM_LINEARS, Attached, matching_linears
from hwnas.errors import ConfigError

__all__ = ["mean_gradients"]


def mean_gradients(
    model: nn.Module | Attached, losses: Iterable[torch.Tensor], *, targets: str = SAM_LINEARS
) -> dict[str, torch.Tensor]:
    """Mean over batches of |gradient|, (O, I) float32, of each linear layer that matches.

    Args:
        model: The model, or one with adapters, which are switched off meanwhile.
        losses: One scalar a batch. They must come from a generator, such as `(loss(model, b) for
            b in batches)`, as the weights ask for gradients only while it is consumed.
        targets: Regular expression for the whole names of the layers.

    Source: the `gradient` and `snip` masks of SHiRA; the paper does not say how many batches, nor
    how they are averaged. No parameter is changed, none keeps a gradient.

    Raises:
        ConfigError: no layer matches, there is no loss, or a loss does not depend on a layer.
    """
    if isinstance(model, Attached):
        with model.disabled():
            return mean_gradients(model.model, losses, targets=targets)
    weights = {path: layer.weight for path, layer in matching_linears(model, targets).items()}
    needed = [weight.requires_grad for weight in weights.values()]
    sums = {path: torch.zeros_like(w, dtype=torch.float32) for path, w in weights.items()}
    count = 0
    try:
        for weight in weights.values():
            weight.requires_grad_(True)
        for loss in losses:
            _add_gradients(loss, weights, sums)
            count += 1
    finally:
        for weight, before in zip(weights.values(), needed, strict=True):
            weight.requires_grad_(before)
    if count == 0:
        raise ConfigError("mean_gradients: no loss came; expected at least one batch")
    return {path: total.div_(count) for path, total in sums.items()}


def _add_gradients(
    loss: torch.Tensor, weights: dict[str, torch.Tensor], sums: dict[str, torch.Tensor]
) -> None:
    if loss.numel() != 1 or not loss.requires_grad:
        raise ConfigError(
            f"a loss of shape {tuple(loss.shape)}, "
            f"{'with' if loss.requires_grad else 'without'} a graph; expected a scalar that was "
            "computed while mean_gradients asks for it: give a generator, not a list, and no "
            "torch.no_grad() or detach()"
        )
    grads = torch.autograd.grad(loss.reshape(()), list(weights.values()), allow_unused=True)
    unused = [path for path, grad in zip(weights, grads, strict=True) if grad is None]
    if unused:
        raise ConfigError(
            f"the loss does not depend on {len(unused)} of {len(weights)} layers, such as "
            f"{unused[0]}; narrow `targets`, or compute the loss from the whole model"
        )
    for total, grad in zip(sums.values(), grads, strict=True):
        assert grad is not None
        total.add_(grad.detach().abs())
