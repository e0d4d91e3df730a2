"""Weights of a stock image encoder by layer name, sliced to a subnet, adapters merged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from hwnas.adapters import AdapterBank, MatrixSlice
from hwnas.errors import CheckpointError
from hwnas.workload.sam_geometry import SamGeometry

__all__ = [
    "NECK_CONV",
    "NECK_LINEAR",
    "PATCH",
    "EncoderWeights",
    "LayerSize",
    "check_encoder",
    "freeze_weights",
]

PATCH, NECK_LINEAR, NECK_CONV = "patch_embed", "neck.0", "neck.2"
_PARTS = 3  # q, k and v


@dataclass(frozen=True, slots=True)
class LayerSize:
    """Active outputs and inputs of a layer; for qkv, `out` counts the rows of q alone."""

    name: str
    out: int
    inp: int

    @property
    def part(self) -> MatrixSlice:
        """The active part of the layer's matrix."""
        return MatrixSlice(self.out, self.inp, _PARTS if self.name.endswith(".qkv") else 1)


class EncoderWeights:
    """Reads the parameters of a wrapped encoder; holds none itself.

    Layers are `patch_embed`, `neck.0`, `neck.2` and `blocks.I.LINEAR`; convolutions come as
    matrices (O, inputs·kh·kw), so that every layer is a linear one. `adapters` are merged into
    `merged`, never into `weight`.
    """

    def __init__(self, encoder: Any, adapters: AdapterBank | None = None) -> None:
        self.encoder, self.adapters = encoder, adapters

    def paths(self, layer: str, w_bits: int, a_bits: int) -> tuple[str, ...]:
        """The adapter paths that a layer of these bits merges; none without adapters."""
        return () if self.adapters is None else self.adapters.paths(layer, w_bits, a_bits)

    def merged(self, size: LayerSize, w_bits: int, a_bits: int) -> torch.Tensor:
        """The active part (O, I) of a weight and its adapters, before any quantizer."""
        weight = size.part.matrix(self.weight(size.name))
        if self.adapters is None:
            return weight
        return self.adapters.merge(size.name, weight, w_bits, a_bits, size.part)

    def whole(self, layer: str) -> LayerSize:
        """The size of the largest subnet's layer."""
        rows, columns = self.weight(layer).shape
        return LayerSize(layer, rows // LayerSize(layer, 0, 0).part.parts, columns)

    def sources(self, layer: str, w_bits: int, a_bits: int) -> tuple[torch.Tensor, ...]:
        """The trained tensors that `merged` reads."""
        weight = self.kernel(layer)
        own = (weight,) if weight.requires_grad else ()
        if self.adapters is None:
            return own
        return own + self.adapters.trained(layer, w_bits, a_bits)

    def weight(self, layer: str) -> torch.Tensor:
        """The full weight (O, I) of a layer."""
        return self.kernel(layer).flatten(1)

    def kernel(self, layer: str) -> torch.Tensor:
        """The same in the stock shape, (O, C, kh, kw) for a convolution."""
        weight: torch.Tensor = self._module(layer).weight
        return weight

    def bias(self, layer: str) -> torch.Tensor:
        """The full bias (O,), zeros for the neck, whose convolutions have none."""
        module = self._module(layer)
        if module.bias is None:
            return torch.zeros(len(module.weight), device=module.weight.device)
        bias: torch.Tensor = module.bias
        return bias

    def _module(self, layer: str) -> Any:
        if layer == PATCH:
            return self.encoder.patch_embed.proj
        if layer.startswith("neck."):
            return self.encoder.neck[int(layer.removeprefix("neck."))]
        _, index, name = layer.split(".")
        block = self.encoder.blocks[int(index)]
        return getattr(block.attn if name in ("qkv", "proj") else block.mlp, name)


def freeze_weights(encoder: Any) -> None:
    """Leave biases and norms trainable, and nothing else of a stock encoder.

    Frozen are all matrices and kernels, the position table and the relative-position tables.
    """
    for name, parameter in encoder.named_parameters():
        small = name.endswith(".bias") or parameter.dim() == 1
        parameter.requires_grad_(small)


def check_encoder(encoder: Any, geometry: SamGeometry) -> None:
    """Raise CheckpointError unless an image encoder has the sizes of the geometry."""
    grid = geometry.grid(geometry.image_size)
    block = encoder.blocks[0]
    found = (len(encoder.blocks), tuple(encoder.pos_embed.shape[1:]), block.attn.num_heads,
             block.mlp.lin1.out_features)  # fmt: skip
    expected = (geometry.depth, (grid, grid, geometry.dim), geometry.heads, geometry.mlp_hidden)
    if found != expected:
        raise CheckpointError(
            f"the encoder has (blocks, position table, heads, MLP) = {found}; {geometry.name} "
            f"expects {expected}; wrap it with the geometry that it was built for"
        )
