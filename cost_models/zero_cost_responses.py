"""Zero-cost proxies without gradients: how a network before training answers to images.

    naswot   log det K, K = sum over activations of x x' + (1 - x)(1 - x)', x the on/off codes of
             a batch; the sign of what enters the activation, so that it works before a GELU too
    zen      log E |f(x) - f(x + 0.01 e)| + sum over norms of log sqrt(mean variance), f the last
             map, its weights and the images x and e standard normal

Sources: Mellor et al., "Neural architecture search without training" (ICML 2021); Lin et al.,
"Zen-NAS" (ICCV 2021), with the Euclidean norm of the paper's definition, residual links kept. Zen
is defined for batch norms; for other norms it is our reading (`log_step_response`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cost_models.zero_cost_proxy import ZeroCostProxy
from hwnas.cost import CostContext
from hwnas.errors import CostError
from hwnas.supernet.probing import Probe, Weights, draw_weights
from hwnas.supernet.probing.responses import code_agreement, log_step_response

__all__ = ["Naswot", "Zen"]

_STEP = 0.01


class Naswot(ZeroCostProxy):
    """How differently the images of one batch switch the units of a network, in nats.

    The value depends on `batch_images`; compare within one number of them.

    Raises:
        CostError: an option makes no sense, the context has no supernet or no data, or two images
            of the batch switch every unit alike.
    """

    name = "naswot"
    unit = "nats"
    needs = ("supernet", "data")

    def __init__(
        self, context: CostContext, *, weights: Weights = "fresh", seeds: int | None = None,
        batch_images: int = 16,
    ) -> None:  # fmt: skip
        if batch_images < 2:
            raise CostError(f"{self.name}: batch_images is {batch_images}, expected 2 or more")
        super().__init__(context, weights=weights, seeds=seeds, images=batch_images)

    def score(self, probe: Probe, batches: Sequence[Any], seed: int) -> float:
        """Return the log of the determinant."""
        kernel = code_agreement(probe, batches[0].images)
        units = kernel[0, 0]
        if np.triu(kernel, 1).max() >= units:
            raise CostError(
                f"two of {len(kernel)} images switch all {units:.0f} units alike; give images "
                "that differ"
            )
        return float(np.linalg.slogdet(kernel)[1])


class Zen(ZeroCostProxy):
    """How far a small step of a random image moves the last map of a network of random weights.

    `images` are drawn, so that no data is needed; weights are always drawn from N(0, 1).

    Raises:
        CostError: an option makes no sense, or the context has no supernet.
    """

    name = "zen"
    unit = "nats"
    needs = ("supernet",)

    def __init__(
        self, context: CostContext, *, seeds: int | None = None, batch_images: int = 8
    ) -> None:
        super().__init__(context, seeds=seeds)
        if batch_images < 1:
            raise CostError(f"{self.name}: batch_images is {batch_images}, expected 1 or more")
        self._images = batch_images

    def score(self, probe: Probe, batches: Sequence[Any], seed: int) -> float:
        """Return the Zen score of one draw."""
        draw_weights(probe.module, seed, "gaussian")
        return log_step_response(probe, self._context.seed, images=self._images, step=_STEP)
