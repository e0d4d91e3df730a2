"""Weights of a stock image encoder by layer name, sliced to the sizes of a subnet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from hwnas.errors import CheckpointError
from hwnas.workload.sam_geometry import SamGeometry

__all__ = ["NECK_CONV", "NECK_LINEAR", "PATCH", "EncoderWeights", "LayerSize", "check_encoder"]

PATCH, NECK_LINEAR, NECK_CONV = "patch_embed", "neck.0", "neck.2"
_PARTS = 3  # q, k and v


@dataclass(frozen=True, slots=True)
class LayerSize:
    """Active outputs and inputs of a layer; for qkv, `out` counts the rows of q alone."""

    name: str
    out: int
    inp: int

    @property
    def is_qkv(self) -> bool:
        return self.name.endswith(".qkv")


class EncoderWeights:
    """Reads the parameters of a wrapped encoder; holds none itself.

    Layers are `patch_embed`, `neck.0`, `neck.2` and `blocks.I.LINEAR`; convolutions come as
    matrices (O, inputs·kh·kw), so that every layer is a linear one.
    """

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder

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


def slice_rows(tensor: torch.Tensor, size: LayerSize) -> torch.Tensor:
    """The first `out` rows; of qkv, the first `out` of each of its three parts."""
    if not size.is_qkv:
        return tensor[: size.out]
    parts = tensor.view(_PARTS, -1, *tensor.shape[1:])[:, : size.out]
    return parts.reshape(_PARTS * size.out, *tensor.shape[1:])


def slice_matrix(tensor: torch.Tensor, size: LayerSize) -> torch.Tensor:
    """The active rows and the first `inp` columns of a matrix (O, I)."""
    return slice_rows(tensor, size)[:, : size.inp]


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
