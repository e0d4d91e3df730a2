"""A probe as a network of positive weights without norms: what synaptic flow differentiates.

Source: Tanaka et al., "Pruning neural networks without any data" (NeurIPS 2020): the sum of the
outputs on an input of ones, all parameters replaced by their absolute values. Norms are left out,
since they would undo any scale and, at the end of a network, make the sum a constant. Attention
averages its values, as it does anyway where all tokens are alike: without norms its scores grow
with every block, and the gradient of the softmax would be rounding noise times their size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from hwnas.errors import CostError
from hwnas.supernet.probing.gradients import as_in_training, gradients_of
from hwnas.supernet.probing.probe import Probe, ProbedLayer

__all__ = ["NORMS", "flow_gradients", "norms_of", "nuclear_norm", "without_norms"]

NORMS = (
    nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm,
)  # fmt: skip
"""What counts as a norm; `_NormBase` is that of batch and instance norms."""


def norms_of(module: nn.Module) -> list[nn.Module]:
    """The norms of a module, in their order."""
    return [part for part in module.modules() if isinstance(part, NORMS)]


@contextmanager
def without_norms(module: nn.Module) -> Iterator[None]:
    """Let every norm hand on its input."""
    handles = [
        norm.register_forward_hook(lambda _module, inputs, _output: inputs[0])
        for norm in norms_of(module)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def flow_gradients(probe: Probe, layers: Sequence[ProbedLayer]) -> list[torch.Tensor]:
    """The gradient of the flow for each layer, in float64; all weights are made positive in place.

    Raises:
        CostError: the flow overflows.
    """
    probe.module.double()
    if probe.average_attention is not None:
        probe.average_attention()
    with torch.no_grad():
        for tensor in (*probe.module.parameters(), *probe.module.buffers()):
            if tensor.is_floating_point():
                tensor.abs_()
    ones = torch.ones(1, *probe.input_shape, dtype=torch.float64, device=probe.device)
    with as_in_training(probe), without_norms(probe.module):
        flow = probe.module(ones).sum()
        if not torch.isfinite(flow):
            raise CostError(f"the sum of the outputs is {flow.item()}; expected a finite number")
        return gradients_of(flow, layers)


def nuclear_norm(weight: torch.Tensor) -> float:
    """Sum of the singular values of a weight as a matrix (outputs, inputs)."""
    return float(torch.linalg.matrix_norm(weight.double().flatten(1), "nuc"))
