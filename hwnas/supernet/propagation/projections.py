"""The six projections of a block: q, k and v are rows of one fused layer, o is `attn.proj`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hwnas.adapters import AdaptedLinear
from hwnas.errors import ConfigError

__all__ = ["PROJECTIONS", "Projection", "projections_of"]

PROJECTIONS = ("q", "k", "v", "o", "lin1", "lin2")
"""In the order of the forward pass."""
_PATH = re.compile(r"(?:.*\.)?blocks\.(?P<block>\d+)\.(?:attn|mlp)\.(?P<layer>\w+)")
_PARTS = {"qkv": ("q", "k", "v"), "proj": ("o",), "lin1": ("lin1",), "lin2": ("lin2",)}


@dataclass(frozen=True, slots=True)
class Projection:
    """Outputs `rows` of the layer at `path`: rows of its weight, channels of what it gives."""

    block: int
    name: str
    path: str
    rows: slice


def projections_of(layers: Mapping[str, AdaptedLinear]) -> tuple[Projection, ...]:
    """The projections of some layers of a SAM encoder, by block and in the order of a block.

    Raises:
        ConfigError: a layer is none of the four of a block.
    """
    found = []
    for path, layer in layers.items():
        known = _PATH.fullmatch(path)
        names = _PARTS.get(known["layer"]) if known else None
        if known is None or names is None or layer.out_features % len(names):
            raise ConfigError(
                f"{path}: expected qkv, proj, lin1 or lin2 of a block of a SAM encoder; narrow "
                "adapter.targets to these"
            )
        size = layer.out_features // len(names)
        found += [
            Projection(int(known["block"]), name, path, slice(i * size, (i + 1) * size))
            for i, name in enumerate(names)
        ]
    return tuple(sorted(found, key=lambda one: (one.block, PROJECTIONS.index(one.name))))
