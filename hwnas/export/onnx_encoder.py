"""The image encoder of a subnet as an ONNX graph with integer products.

The forward pass is that of `hwnas.supernet.encoder_view`, for one image: (1, 3, R, R) to
(1, 256, g, g). Token maps are (1, T, C) in reading order; windows exist inside attention only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hwnas.errors import ConfigError
from hwnas.export.layer_codes import CENTER, CodedLayer, coded
from hwnas.export.onnx_attention import AttentionWriter
from hwnas.export.onnx_graph import OnnxGraph
from hwnas.export.onnx_layers import GraphStyle, LayerWriter, Move, WeightStorage
from hwnas.supernet.attention import Attention
from hwnas.supernet.encoder_view import BlockView, EncoderView

if TYPE_CHECKING:
    from onnx import ModelProto

    from hwnas.supernet.subnet import Subnet

__all__ = ["encoder_model"]

_TAPS = 9  # of the 3 x 3 convolution


def encoder_model(
    subnet: Subnet, *, style: GraphStyle = "onnxruntime", storage: WeightStorage = "int8",
    notes: dict[str, str] | None = None,
) -> ModelProto:  # fmt: skip
    """The graph of a subnet's encoder.

    Raises:
        ConfigError: a layer has no integer codes (`layer_codes.coded`).
    """
    graph = OnnxGraph("image_encoder")
    writer = _EncoderWriter(
        subnet.view(), subnet.plan.resolution, LayerWriter(graph, style, storage)
    )
    writer.add()
    return graph.model(notes)


class _EncoderWriter:
    def __init__(self, view: EncoderView, resolution: int, write: LayerWriter) -> None:
        self.view, self.write, self.resolution = view, write, resolution
        self.graph = write.graph
        self.grid = resolution // view.patch

    def add(self) -> None:
        x = self._tokens(self.graph.input("image", "float32", (1, 3, *[self.resolution] * 2)))
        grid = self.grid
        for place, block in enumerate(self.view.blocks):
            if place == self.view.pool_before:
                x, grid = self._pooled(x, grid), grid // 2
            x = self._block(block, x, grid)
        channels = len(self.view.out_norm.weight)
        name = self._neck(x, grid)
        self.graph.output(name, "float32", (1, channels, self.grid, self.grid))

    def _tokens(self, image: str) -> str:
        """Patches, their embedding, and positions: (1, T, C)."""
        g, p, write = self.grid, self.view.patch, self.write
        layer = coded(self.view.patch_embed, "patch_embed")
        moves = (
            Move("reshape", (3, g, p, g, p)),
            Move("transpose", (1, 3, 0, 2, 4)),  # (g, g, 3, p, p)
            Move("reshape", (1, g * g, 3 * p * p)),
        )
        positions = self.view.position.detach().reshape(g * g, -1).numpy()
        patches = self._input(image, layer, "patch_embed", moves)
        return write.product(patches, layer, "patch_embed", add=positions)

    def _input(
        self, x: str, layer: CodedLayer, name: str, moves: tuple[Move, ...] = (), *,
        shifted: bool = False,
    ) -> str:  # fmt: skip
        """The input of a layer on its grid; `shifted` where a norm has taken the shift already."""
        if layer.grid is None:
            return self.write.moved(x, moves, name)
        if not shifted:
            x = self.write.shifted(x, layer.grid.shift, f"{name}/shifted")
        bounds = (-CENTER, layer.grid.highest)
        return self.write.quantized(x, layer.grid.scale, name, bounds=bounds, moves=moves)

    def _block(self, block: BlockView, x: str, grid: int) -> str:
        g, name = self.graph, f"blocks/{block.index}"
        mixed = self._attend(block, x, grid, name)
        x = g.node("Add", [x, mixed], f"{name}/attended")
        lin1, lin2 = (coded(getattr(block, part), f"{name}/{part}") for part in ("lin1", "lin2"))
        normed = self.write.norm(block.norm2, x, f"{name}/norm2", shift=_shift(lin1))
        hidden = self._input(normed, lin1, f"{name}/lin1", shifted=True)
        hidden = self.write.product(hidden, lin1, f"{name}/lin1")
        hidden = g.node("Gelu", [hidden], f"{name}/gelu", approximate="none")
        hidden = self._input(hidden, lin2, f"{name}/lin2")
        out = self.write.product(hidden, lin2, f"{name}/lin2")
        return g.node("Add", [x, out], name)

    def _attend(self, block: BlockView, x: str, grid: int, name: str) -> str:
        if not isinstance(block.attention, Attention):
            raise ConfigError(f"{name}: {type(block.attention).__name__} is no layer of a subnet")
        qkv, proj = (coded(getattr(block, part), f"{name}/{part}") for part in ("qkv", "proj"))
        normed = self.write.norm(block.norm1, x, f"{name}/norm1", shift=_shift(qkv))
        padded = -(-grid // block.attention.side) * block.attention.side
        if padded != grid:
            normed = self._padded(normed, grid, padded, -_shift(qkv), f"{name}/norm1")
        attend = AttentionWriter(self.write, block.attention, padded, f"{name}/attention")
        tokens = self._input(normed, qkv, f"{name}/qkv", shifted=True)
        mixed = attend(tokens, qkv, f"{name}/qkv")
        merged = self._input(mixed, proj, f"{name}/proj", attend.merging)
        out = self.write.product(merged, proj, f"{name}/proj")
        if padded == grid:
            return out
        crop = (
            Move("reshape", (1, padded, padded, len(proj.bias))),
            Move("crop", (grid, grid)),
            Move("reshape", (1, grid**2, len(proj.bias))),
        )
        return self.write.moved(out, crop, f"{name}/proj/crop")

    def _padded(self, x: str, grid: int, padded: int, value: float, name: str) -> str:
        """Fill up the bottom and the right of a map (1, T, C) as far as whole windows reach."""
        g, more = self.graph, padded - grid
        x = g.reshape(x, (1, grid, grid, -1), f"{name}/map")
        ends = g.constant(f"{name}/pads", np.array([0, 0, 0, 0, 0, more, more, 0], np.int64))
        x = g.node("Pad", [x, ends, g.constant(f"{name}/pad", value)], f"{name}/padded")
        return g.reshape(x, (1, padded**2, -1), f"{name}/padded/flat")

    def _pooled(self, x: str, grid: int) -> str:
        g = self.graph
        x = self._first(x, grid, "pool/map")
        x = g.node("AveragePool", [x], "pool", kernel_shape=[2, 2], strides=[2, 2])
        return self._last(x, (grid // 2) ** 2, "pool/tokens")

    def _first(self, x: str, grid: int, name: str) -> str:
        """Tokens (1, T, C) as a map (1, C, grid, grid)."""
        x = self.graph.transpose(x, (0, 2, 1), f"{name}/turned")
        return self.graph.reshape(x, (1, -1, grid, grid), name)

    def _last(self, x: str, tokens: int, name: str) -> str:
        x = self.graph.reshape(x, (1, -1, tokens), f"{name}/flat")
        return self.graph.transpose(x, (0, 2, 1), name)

    def _neck(self, x: str, grid: int) -> str:
        g, view = self.graph, self.view
        if grid != self.grid:
            x = self._first(x, grid, "neck/small")
            size = np.array([1, len(self.view.position[0, 0, 0]), self.grid, self.grid], np.int64)
            x = g.node(
                "Resize", [x, "", "", g.constant("neck/size", size)], "neck/resized",
                mode="linear", coordinate_transformation_mode="half_pixel",
            )  # fmt: skip
            x = self._last(x, self.grid**2, "neck/tokens")
        linear, conv = coded(view.neck_linear, "neck/linear"), coded(view.neck_conv, "neck/conv")
        x = self.write.product(self._input(x, linear, "neck/linear"), linear, "neck/linear")
        x = self.write.norm(view.neck_norm, x, "neck/norm", shift=_shift(conv))
        x = self._conv(x, conv)
        x = self.write.norm(view.out_norm, x, "neck/out")
        return self._first(x, self.grid, "embedding")

    def _conv(self, x: str, conv: CodedLayer) -> str:
        """The 3 x 3 convolution as a product with the 9 C inputs of each place.

        A runtime has an integer product with a floating-point result, but hardly an integer
        convolution with one. Zeros pad the map as codes (`hwnas.supernet.neck_conv`).
        """
        channels, side = conv.weight.shape[1] // _TAPS, self.grid
        shape = Move("reshape", (1, side**2, _TAPS * channels))
        name, grid = "neck/conv", conv.grid
        if grid is None or self.write.paired:
            columns = self._columns(x, channels)
            if grid is None:
                return self.write.product(self.write.moved(columns, [shape], name), conv, name)
            bounds = (-CENTER, grid.highest)
            columns = self.write.quantized(columns, grid.scale, name, bounds=bounds, moves=[shape])
        else:
            codes = self.write.codes(x, grid.scale, f"{name}/codes", bounds=(-CENTER, grid.highest))
            columns = self._columns(codes, channels, np.int8)
            columns = self.write.operand(columns, grid.scale, name, [shape])
        return self.write.product(columns, conv, name)

    def _columns(self, x: str, channels: int, dtype: type = np.float32) -> str:
        """The inputs of each place (1, g, g, 9 C): kernel row, kernel column, channel."""
        g, side = self.graph, self.grid
        x = g.reshape(x, (1, side, side, channels), "neck/conv/map")
        ends = g.constant("neck/conv/pads", np.array([0, 1, 1, 0, 0, 1, 1, 0], np.int64))
        zero = g.constant("neck/conv/pad", np.zeros((), dtype))
        x = g.node("Pad", [x, ends, zero], "neck/conv/padded")
        taps = [
            g.slice(x, (y, z), (y + side, z + side), (1, 2), f"neck/conv/tap{y}{z}")
            for y in range(3)
            for z in range(3)
        ]
        return g.node("Concat", taps, "neck/conv/columns", axis=3)


def _shift(layer: CodedLayer) -> float:
    return 0.0 if layer.grid is None else layer.grid.shift
