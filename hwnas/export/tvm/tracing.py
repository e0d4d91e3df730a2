"""The buffers of an encoder's program, as torch computes them.

The same layers in the same order as `hwnas.supernet.encoder_view`, each result kept under the name
and in the layout of the program's buffer; that the last one is the subnet's own output is a test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from hwnas.export.tvm.encoder import EMBEDDING, IMAGE
from hwnas.export.tvm.weights import array
from hwnas.measure.kernels.family import Array
from hwnas.quant.bits import signed_codes
from hwnas.quant.linear import ActivationGrid
from hwnas.supernet.attention import Attention
from hwnas.supernet.encoder_view import BlockView, EncoderView
from hwnas.supernet.windows import merge_windows, split_windows

__all__ = ["Codes", "Trace", "traced"]

Codes = Callable[[Array], Array]


@dataclass
class Trace:
    """Buffers by name, flat; and for each quantized layer what it reads, and how that is coded."""

    buffers: dict[str, Array] = field(default_factory=dict)
    codes: dict[str, tuple[str, Codes]] = field(default_factory=dict)

    def keep(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """Keep a buffer and return it."""
        self.buffers[name] = array(value).ravel()
        return value

    def product(self, name: str, layer: Any, x: torch.Tensor, source: str) -> torch.Tensor:
        """Run a layer with a weight on the buffer `source`."""
        grid = layer.grid
        if grid is not None:
            self.codes[name] = source, _codes(grid)
        return self.keep(name, layer(x))


@torch.no_grad()
def traced(view: EncoderView, image: torch.Tensor) -> Trace:
    """Run an encoder on one normalized image (3, R, R)."""
    trace, side, p = Trace(), image.shape[-1], view.patch
    g = side // p
    trace.keep(IMAGE, image.permute(1, 2, 0))
    patches = image.view(1, 3, g, p, g, p).permute(0, 2, 4, 1, 3, 5).reshape(1, g, g, -1)
    x = trace.product("patch_embed", view.patch_embed, patches, IMAGE)
    x, last = trace.keep("pos_embed", x + view.position), "pos_embed"
    for place, block in enumerate(view.blocks):
        if place == view.pool_before:
            pooled = functional.avg_pool2d(x.permute(0, 3, 1, 2), 2)
            x = trace.keep("pool", pooled.permute(0, 2, 3, 1))
        x = _block(trace, block, x)
        last = f"blocks.{block.index}.add2"
    if view.pool_before is not None:
        maps = x.permute(0, 3, 1, 2)
        maps = functional.interpolate(maps, size=(g, g), mode="bilinear", align_corners=False)
        x, last = trace.keep("neck.resize", maps.permute(0, 2, 3, 1)), "neck.resize"
    x = trace.product("neck.0", view.neck_linear, x.contiguous(), last)
    x = trace.keep("neck.1", view.neck_norm(x))
    x = trace.product("neck.2", view.neck_conv, x, "neck.1")
    trace.keep(EMBEDDING, view.out_norm(x))
    return trace


def _block(trace: Trace, block: BlockView, x: torch.Tensor) -> torch.Tensor:
    name, grid = f"blocks.{block.index}", x.shape[1]
    y, last = trace.keep(f"{name}.norm1", block.norm1(x)), f"{name}.norm1"
    y = split_windows(y, block.window)
    if block.window:
        y, last = trace.keep(f"{name}.window", y), f"{name}.window"
    y = trace.product(f"{name}.qkv", block.qkv, y, last)
    attention = block.attention
    assert isinstance(attention, Attention)
    if attention.grids is not None:
        trace.codes[f"{name}.qk"] = f"{name}.qkv", _attention_codes(attention)
    y = trace.keep(f"{name}.qk", attention(y))
    y = trace.product(f"{name}.proj", block.proj, y, f"{name}.qk")
    y = merge_windows(y, block.window, grid)
    if block.window:
        y = trace.keep(f"{name}.unwindow", y)
    x = trace.keep(f"{name}.add1", x + y)
    y = trace.keep(f"{name}.norm2", block.norm2(x))
    y = trace.product(f"{name}.lin1", block.lin1, y, f"{name}.norm2")
    y = trace.keep(f"{name}.gelu", functional.gelu(y))
    y = trace.product(f"{name}.lin2", block.lin2, y, f"{name}.gelu")
    return trace.keep(f"{name}.add2", x + y)


def _codes(grid: ActivationGrid) -> Codes:
    return lambda values: array(grid.codes(torch.from_numpy(values)))


def _attention_codes(layer: Attention) -> Codes:
    """Codes of q, k and v, which lie side by side in each token."""
    g = layer.grids
    assert g is not None
    scales = np.array([g.query, g.key, g.value]).repeat(layer.heads * layer.head_dim)
    low, high = signed_codes(g.bits)

    def codes(values: Array) -> Array:
        rows = values.reshape(-1, len(scales)) * (1 / scales).astype(np.float32)
        return np.asarray(np.clip(np.rint(rows), low, high)).ravel()

    return codes
