"""What a training-free score of a network looks at, and who makes it.

A supernet of any kind takes part by having the two methods of `Probeable`; SAM supernets are given
them by `sam_probes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import nn

from hwnas.space import Arch

__all__ = [
    "BatchSize",
    "ImageBatch",
    "Probe",
    "Probeable",
    "ProbedBatch",
    "ProbedLayer",
    "Role",
    "Weights",
    "weight_layers",
]

Weights = Literal["fresh", "inherited"]
Role = Literal["stem", "attention", "other"]

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True, slots=True, eq=False)
class ProbedLayer:
    """A weight that counts; norms, biases and tables do not.

    Attributes:
        name: Unique within the probe; that of the layer in the arch's `Workload`, if it has one.
        weight: A parameter of the probe's module.
        channels: Outputs of the layer.
        rows: Which rows of the weight are this layer: a fused `qkv` is three layers.
        role: `stem` reads the image; `attention` is q, k, v or proj.
        sized_by: Layer of the `Workload` that has the positions of this one's output; `name`
            if empty.
    """

    name: str
    weight: torch.Tensor
    channels: int
    rows: slice = field(default_factory=lambda: slice(None))
    role: Role = "other"
    sized_by: str = ""

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The rows of this layer in a tensor that is shaped like the weight."""
        return tensor[self.rows]

    @property
    def numel(self) -> int:
        """Number of its weights."""
        return self.of(self.weight).numel()


class ProbedBatch(Protocol):
    """A batch; what else it has is between the loss and whoever made it."""

    @property
    def images(self) -> torch.Tensor:
        """Inputs (B, *input_shape) of the probe's module."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ImageBatch:
    """Inputs (B, ...) and their targets, for probes that need no more."""

    images: torch.Tensor
    targets: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """One network, used for one score: a proxy may overwrite its weights.

    Attributes:
        module: Inputs (B, *input_shape) to outputs; all parameters can have a gradient, none is
            shared with the supernet.
        input_shape: Shape of one input, (3, R, R) for an image.
        layers: The weights that count, in the order in which they run.
        loss: Scalar loss of a batch: the one that the network is to be trained with.
        features: Inputs to the last map before any pooling; the module itself by default.
        activations: Modules whose input decides which units are active; those of the types that
            torch has for activations, if empty.
        remove_residuals: Takes the residual links out of the module, where that makes sense.
        average_attention: Lets every attention in the module average its values, whatever queries
            and keys say.
    """

    module: nn.Module
    input_shape: tuple[int, ...]
    layers: tuple[ProbedLayer, ...]
    loss: Callable[[Any], torch.Tensor]
    features: Callable[[torch.Tensor], torch.Tensor] | None = None
    activations: tuple[nn.Module, ...] = ()
    remove_residuals: Callable[[], None] | None = None
    average_attention: Callable[[], None] | None = None

    @property
    def device(self) -> torch.device:
        """Where the module lives."""
        return self.layers[0].weight.device

    def map_of(self, inputs: torch.Tensor) -> torch.Tensor:
        """The last map of inputs."""
        features: torch.Tensor = (self.features or self.module)(inputs)
        return features


@dataclass(frozen=True, slots=True)
class BatchSize:
    """How many batches of how many images; `seed` draws the images."""

    batches: int
    images: int
    seed: int = 0


@runtime_checkable
class Probeable(Protocol):
    """A supernet that makes probes of its subnets.

    Where it also has `probe_id(arch) -> str`, archs of one id are one network to a probe and get
    one score; by default each arch is a network of its own.
    """

    def probe(self, arch: Arch, *, weights: Weights, seed: int) -> Probe:
        """A network with `fresh` weights drawn by `seed`, or with the supernet's own.

        Nothing is quantized and nothing is frozen in it; no global generator is used.
        """
        ...

    def probe_batches(self, arch: Arch, data: Any, size: BatchSize) -> Sequence[Any]:
        """The fixed batches for this arch, on the network's device, made of the context's `data`.

        They depend on the input shape of an arch and on nothing else of it.
        """
        ...


def weight_layers(module: nn.Module) -> tuple[ProbedLayer, ...]:
    """Every convolution and linear layer of a module, named after its place, in their order."""
    found: list[ProbedLayer] = []
    for name, part in module.named_modules():
        if isinstance(part, (nn.Linear, *_CONVS)):
            found.append(ProbedLayer(name, part.weight, len(part.weight)))
        elif isinstance(part, _TRANSPOSED):
            found.append(ProbedLayer(name, part.weight, part.out_channels))
    return tuple(found)
