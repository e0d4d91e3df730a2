"""Gradients of a probe's loss with respect to the layers that count, and their moments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from hwnas.errors import CostError
from hwnas.supernet.probing.probe import Probe, ProbedBatch, ProbedLayer

__all__ = ["GradientMoments", "as_in_training", "gradients_of", "loss_gradients"]


@contextmanager
def as_in_training(probe: Probe) -> Iterator[None]:
    """Norms use the statistics of the batch, nothing is dropped, and no autocast."""
    probe.module.train()
    for part in probe.module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.eval()
    with torch.autocast(probe.device.type, enabled=False):
        yield


def loss_gradients(
    probe: Probe, batch: ProbedBatch, layers: Sequence[ProbedLayer]
) -> list[torch.Tensor]:
    """The gradient of the loss of one batch for each layer, shaped like the layer's rows.

    Raises:
        CostError: the loss is not finite.
    """
    with as_in_training(probe):
        loss = probe.loss(batch)
        if not torch.isfinite(loss):
            raise CostError(f"the loss of a batch is {loss.item()}; expected a finite number")
        return gradients_of(loss, layers)


def gradients_of(total: torch.Tensor, layers: Sequence[ProbedLayer]) -> list[torch.Tensor]:
    """The gradient of a scalar for each layer; zeros where it does not depend on the layer."""
    weights = {id(layer.weight): layer.weight for layer in layers}
    found = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
    by_weight = {
        key: torch.zeros_like(weight) if gradient is None else gradient
        for (key, weight), gradient in zip(weights.items(), found, strict=True)
    }
    return [layer.of(by_weight[id(layer.weight)]).detach() for layer in layers]


class GradientMoments:
    """Mean absolute value, and deviation, of every weight's gradient over batches.

    Streamed (Welford), in float64, because the deviation of gradients that hardly differ is the
    difference of large numbers: 24 bytes a weight however many batches there are.
    """

    def __init__(self, layers: Sequence[ProbedLayer]) -> None:
        self.count = 0
        self._absolute, self._mean, self._squares = (
            [_zeros(layer.of(layer.weight)) for layer in layers] for _ in range(3)
        )

    def add(self, gradients: Sequence[torch.Tensor]) -> None:
        """Take in the gradients of one batch, in the order of the layers."""
        self.count += 1
        sums = zip(self._absolute, self._mean, self._squares, gradients, strict=True)
        for absolute, mean, squares, gradient in sums:
            wide = gradient.double()
            absolute.add_((wide.abs() - absolute) / self.count)
            delta = wide - mean
            mean.add_(delta / self.count)
            squares.add_(delta * (wide - mean))

    def absolute(self, layer: int) -> torch.Tensor:
        """Mean over batches of |g|, for each weight of a layer."""
        return self._absolute[layer]

    def deviation(self, layer: int) -> torch.Tensor:
        """Standard deviation over batches of g (divided by the number of batches)."""
        return (self._squares[layer] / self.count).sqrt()


def _zeros(like: torch.Tensor) -> torch.Tensor:
    return torch.zeros(like.shape, dtype=torch.float64, device=like.device)
