"""Fresh adapters for an encoder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from hwnas.adapters.bank import AdapterBank
from hwnas.adapters.contract import MatrixSlice
from hwnas.adapters.layout import Layout
from hwnas.errors import ConfigError
from hwnas.workload.sam_geometry import SamGeometry
from hwnas.workload.sam_plan import LINEARS

__all__ = ["block_linears", "build_adapters"]


def block_linears(geometry: SamGeometry) -> dict[str, MatrixSlice]:
    """The whole matrices of the linear layers of all blocks, by name (`blocks.3.qkv`)."""
    dim, hidden = geometry.dim, geometry.mlp_hidden
    shapes = (MatrixSlice(dim, dim, 3), MatrixSlice(dim, dim), MatrixSlice(hidden, dim),
              MatrixSlice(dim, hidden))  # fmt: skip
    return {
        f"blocks.{block}.{name}": shape
        for block in range(geometry.depth)
        for name, shape in zip(LINEARS, shapes, strict=True)
    }


def build_adapters(
    layers: Mapping[str, MatrixSlice],
    *,
    rng: torch.Generator,
    kind: str = "lora",
    layout: Layout | Literal["shared", "selective", "multiplex"] = "multiplex",
    bits: Sequence[int] = (2, 3, 4, 8),
    targets: str = r"blocks\.\d+\.(qkv|proj|lin1|lin2)",
    **options: Any,
) -> AdapterBank:
    """Fresh adapters for the layers whose whole name matches the regular expression `targets`.

    `layers` is `block_linears(geometry)`. `n_low`, `path_key` and `detach_base_low` among the
    options go to the layout (`Layout`), the others to the adapter (`rank`, `alpha`, `split_qkv`
    of `lora`).

    Raises:
        ConfigError: no layer matches, or the layout does not exist.
        PluginError: the adapter does not exist or does not take the options.
    """
    try:
        chosen = {n: shape for n, shape in layers.items() if re.fullmatch(targets, n)}
    except re.error as error:
        raise ConfigError(f"targets {targets!r} is no regular expression: {error}") from error
    if not chosen:
        raise ConfigError(
            f"targets {targets!r} matches no layer; expected a regular expression for names such "
            f"as {', '.join(list(layers)[:4])}"
        )
    names = ("n_low", "path_key", "detach_base_low")
    of_layout: dict[str, Any] = {n: options.pop(n) for n in names if n in options}
    if not isinstance(layout, Layout):
        layout = Layout(layout, tuple(bits), **of_layout)
    elif of_layout:
        raise ConfigError(f"{', '.join(of_layout)}: set them in the Layout that is given")
    return AdapterBank(chosen, layout, rng=rng, kind=kind, options=options)
