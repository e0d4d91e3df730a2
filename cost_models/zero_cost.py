"""Zero-cost proxies that read gradients: of a loss on one batch, or of a network made linear.

All are sums over the convolutions and linear layers of a network before training, w its weights:

    grad_norm   sum_l |g_l|               g the gradient of the training loss on one batch
    snip        sum |g w|
    synflow     log sum |w dR/dw|         R the sum of the outputs of the positive network
    dss         log of: attention layers  |dR/dW|_nuc |W|_nuc; other layers but the stem  |w dR/dw|

Sources: grad_norm and the network-wide sums, Abdelfattah et al., "Zero-cost proxies for lightweight
NAS" (ICLR 2021); snip, Lee et al. (ICLR 2019); synflow, Tanaka et al. (NeurIPS 2020), norms left
out, float64, and the logarithm as NASLib takes it, because the sum grows with every layer by some
powers of ten; dss, Zhou et al., "Training-free transformer architecture search" (CVPR 2022), with
v and proj as the attention layers: attention averages its values (`linear_forms.py`), so q and k
have no part in either of the last two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cost_models.zero_cost_proxy import ZeroCostProxy, log_of
from hwnas.cost import CostContext
from hwnas.errors import CostError
from hwnas.supernet.probing import Probe, Weights
from hwnas.supernet.probing.gradients import loss_gradients
from hwnas.supernet.probing.layer_choice import choose_layers
from hwnas.supernet.probing.linear_forms import flow_gradients, nuclear_norm

__all__ = ["Dss", "GradNorm", "Snip", "Synflow"]


class _OfLoss(ZeroCostProxy):
    """A proxy of the gradients of the training loss on one batch of `batch_images` images.

    Raises:
        CostError: an option makes no sense, or the context has no supernet or no data.
    """

    needs = ("supernet", "data")

    def __init__(
        self, context: CostContext, *, weights: Weights = "fresh", seeds: int | None = None,
        batch_images: int = 8, layers: str = ".*",
    ) -> None:  # fmt: skip
        super().__init__(context, weights=weights, seeds=seeds, images=batch_images, layers=layers)


class GradNorm(_OfLoss):
    """Sum over layers of the Euclidean norm of the loss's gradient."""

    name = "grad_norm"

    def score(self, probe: Probe, batches: Sequence[Any], seed: int) -> float:
        """Return the sum of norms."""
        layers = choose_layers(probe, self._layers)
        return sum(float(g.double().norm()) for g in loss_gradients(probe, batches[0], layers))


class Snip(_OfLoss):
    """Sum over weights of |gradient of the loss x weight|."""

    name = "snip"

    def score(self, probe: Probe, batches: Sequence[Any], seed: int) -> float:
        """Return the sum of saliencies."""
        layers = choose_layers(probe, self._layers)
        gradients = loss_gradients(probe, batches[0], layers)
        return sum(
            float((g.double() * layer.of(layer.weight.detach())).abs().sum())
            for g, layer in zip(gradients, layers, strict=True)
        )


class _OfFlow(ZeroCostProxy):
    """A proxy of a network of positive weights without norms, which needs no data.

    Raises:
        CostError: an option makes no sense, or the context has no supernet.
    """

    unit = "nats"
    needs = ("supernet",)

    def __init__(
        self, context: CostContext, *, weights: Weights = "fresh", seeds: int | None = None,
        layers: str = ".*",
    ) -> None:  # fmt: skip
        super().__init__(context, weights=weights, seeds=seeds, layers=layers)


class Synflow(_OfFlow):
    """Log of the sum over weights of |weight x gradient of the positive network's output|."""

    name = "synflow"

    def score(self, probe: Probe, batches: Sequence[Any], seed: int) -> float:
        """Return the log of the flow."""
        layers = choose_layers(probe, self._layers)
        flows = flow_gradients(probe, layers)
        total = sum(
            float((g * layer.of(layer.weight.detach())).abs().sum())
            for g, layer in zip(flows, layers, strict=True)
        )
        return log_of(total, "the synaptic flow")


class Dss(_OfFlow):
    """Log of the diversity of attention layers plus the saliency of the others; for transformers.

    The layer that reads the image does not count.
    """

    name = "dss"

    def score(self, probe: Probe, batches: Sequence[Any], seed: int) -> float:
        """Return the log of the sum."""
        layers = [x for x in choose_layers(probe, self._layers) if x.role != "stem"]
        if not any(layer.role == "attention" for layer in layers):
            raise CostError("the network has no attention layers, which dss is about")
        total = 0.0
        for gradient, layer in zip(flow_gradients(probe, layers), layers, strict=True):
            weight = layer.of(layer.weight.detach())
            if layer.role == "attention":
                total += nuclear_norm(gradient) * nuclear_norm(weight)
            else:
                total += float((gradient * weight).abs().sum())
        return log_of(total, "the sum over layers")
