"""What passes through some layers in one batch: outputs, gradients, the error of the inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from hwnas.adapters import AdaptedLinear

__all__ = ["Signals", "take_signals"]

Tensors = dict[str, torch.Tensor]


@dataclass(slots=True, eq=False)
class Signals:
    """Of one batch, by the path of a layer; gradients by the name of a loss, too.

    Attributes:
        losses: The value of each loss.
        outputs: What the layer gives, (..., O), with its bias.
        input_energy: Sum of squares of the layer's input, and of what its quantizer takes off it.
        weight_gradients: Of the weight before the quantizer (O, I), straight through the rounding.
        output_gradients: Of the outputs, of their shape.
    """

    losses: dict[str, float] = field(default_factory=dict)
    outputs: Tensors = field(default_factory=dict)
    input_energy: dict[str, tuple[float, float]] = field(default_factory=dict)
    weight_gradients: dict[str, Tensors] = field(default_factory=dict)
    output_gradients: dict[str, Tensors] = field(default_factory=dict)


def take_signals(
    layers: Mapping[str, AdaptedLinear],
    losses: Callable[[], Mapping[str, torch.Tensor]],
) -> Signals:
    """Call `losses` once, with a graph, and differentiate each of them.

    `losses` runs the model that the layers are of; every layer must be used once. The weights need
    gradients, and none is left in them.
    """
    found = Signals()
    with _watched(layers, found):
        values = losses()
    paths = list(layers)
    wanted = [*(layers[path].weight for path in paths), *(found.outputs[path] for path in paths)]
    for number, (name, value) in enumerate(values.items(), start=1):
        found.losses[name] = float(value.detach())
        raw = torch.autograd.grad(
            value, wanted, retain_graph=number < len(values), allow_unused=True
        )
        grads = [
            torch.zeros_like(tensor) if grad is None else grad
            for tensor, grad in zip(wanted, raw, strict=True)
        ]
        found.weight_gradients[name] = dict(zip(paths, grads[: len(paths)], strict=True))
        found.output_gradients[name] = dict(zip(paths, grads[len(paths) :], strict=True))
    found.outputs = {path: value.detach() for path, value in found.outputs.items()}
    return found


@contextmanager
def _watched(layers: Mapping[str, AdaptedLinear], found: Signals) -> Iterator[None]:
    def look(path: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
        def hook(module: nn.Module, given: tuple[torch.Tensor, ...], y: torch.Tensor) -> None:
            del module
            found.outputs[path] = y
            found.input_energy[path] = _energies(layers[path], given[0])

        return hook

    handles = [layer.register_forward_hook(look(path)) for path, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _energies(layer: AdaptedLinear, x: torch.Tensor) -> tuple[float, float]:
    x = x.detach()
    signal = float(x.double().square().sum())
    if layer.quantizer is None:
        return signal, 0.0
    return signal, float((layer.quantizer.quantize_input(x) - x).double().square().sum())
