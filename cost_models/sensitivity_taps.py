"""What each layer of a floating-point network takes and gives on one image, and its gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from hwnas.errors import CostError
from hwnas.supernet.probing.probe import Probe
from hwnas.workload.sam_plan import LINEARS

__all__ = ["Tap", "taps_of"]

_LARGEST_SQUARE = 1e10  # of an element, as in ModelOpt: one outlier must not be the whole sum


@dataclass(eq=False)
class Tap:
    """What a layer of the floating-point network took, gave, and how the loss depends on it."""

    x: torch.Tensor
    y: torch.Tensor
    grad: torch.Tensor | None = None

    def error(self, other: torch.Tensor) -> float:
        """Error of another output of the same shape."""
        return self.change(other - self.y)

    def change(self, delta: torch.Tensor) -> float:
        """Error of an output that is changed by `delta`."""
        if self.grad is None:
            signal = self.y.double().square().mean()
            return float(delta.double().square().mean() / signal.clamp_min(1e-30))
        squares = (self.grad * delta).square().clamp_max(_LARGEST_SQUARE)
        return float(squares.double().sum())


def taps_of(network: Probe, batch: Any, *, with_gradient: bool) -> dict[str, Tap]:
    """Run one image; the taps are named after layers, `blocks.I.attn` and `blocks.I.in`."""
    module: Any = network.module
    taps: dict[str, Tap] = {}
    hooks = []

    def keep(name: str) -> Any:
        def hook(_: Any, args: tuple[torch.Tensor, ...], y: torch.Tensor) -> None:
            # a block that is run once more in backward must not replace what the loss hangs on
            taps.setdefault(name, Tap(args[0], y))

        return hook

    for index, block in enumerate(module.blocks):
        for layer in ("norm1", *LINEARS):
            name = f"blocks.{index}.{'in' if layer == 'norm1' else layer}"
            hooks.append(getattr(block, layer).register_forward_hook(keep(name)))
    try:
        with torch.enable_grad():  # without gradients a block runs its MLP in pieces
            loss = network.loss(batch) if with_gradient else module(batch.images)
            for index in range(len(module.blocks)):
                prefix = f"blocks.{index}"
                taps[f"{prefix}.attn"] = Tap(taps[f"{prefix}.qkv"].y, taps[f"{prefix}.proj"].x)
            if with_gradient:
                wanted = {n: tap for n, tap in taps.items() if not n.endswith(".in")}
                grads = torch.autograd.grad(loss, [tap.y for tap in wanted.values()])
                for tap, grad in zip(wanted.values(), grads, strict=True):
                    tap.grad = grad
    finally:
        for hook in hooks:
            hook.remove()
    for tap in taps.values():
        tap.x, tap.y = tap.x.detach(), tap.y.detach()
    if not all(math.isfinite(float(tap.y.abs().max())) for tap in taps.values()):
        raise CostError("sensitivity: an activation of the floating-point network is not finite")
    return taps
