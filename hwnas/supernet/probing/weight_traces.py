"""Traces of the Hessian of the loss with respect to each weight, by Hutchinson's estimate.

tr H = E[v^T H v] with v of -1 and 1. All weights are probed at once: the products between
different weights have mean 0, so that each trace is right on average, with more spread than
one probe for each weight has. Source: HAWQ-V2 (Dong et al., 2020).
"""

from __future__ import annotations

from typing import Any

import torch

from hwnas.supernet.probing.probe import Probe, ProbedLayer

__all__ = ["weight_traces"]

_FUSED = {"q": "qkv", "k": "qkv", "v": "qkv"}  # three layers that share their bits


def weight_traces(
    network: Probe, batch: Any, *, probes: int, rng: torch.Generator
) -> dict[str, float]:
    """Trace by group of layers on one batch; q, k and v are the group `qkv`.

    An estimate may be negative, even far from a maximum.
    """
    layers = [layer for layer in network.layers if layer.name.startswith("blocks.")]
    weights = [layer.weight for layer in layers]
    traces = dict.fromkeys(map(_group, layers), 0.0)
    with torch.enable_grad():
        grads = torch.autograd.grad(network.loss(batch), weights, create_graph=True)
        for probe in range(probes):
            signs = [_signs(weight, rng) for weight in weights]
            product = torch.stack([(g * v).sum() for g, v in zip(grads, signs, strict=True)]).sum()
            moved = torch.autograd.grad(product, weights, retain_graph=probe + 1 < probes)
            for layer, v, hv in zip(layers, signs, moved, strict=True):
                traces[_group(layer)] += float((v * hv).double().sum()) / probes
    return traces


def _group(layer: ProbedLayer) -> str:
    prefix, _, part = layer.name.rpartition(".")
    return f"{prefix}.{_FUSED.get(part, part)}"


def _signs(weight: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    draws = torch.randint(0, 2, weight.shape, generator=rng)
    return (2 * draws - 1).to(weight)
