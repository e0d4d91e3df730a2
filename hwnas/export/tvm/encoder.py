"""The image encoder of a subnet as a program of kernels.

The order of the parts is that of `hwnas.supernet.encoder_view`; the steps are those of
`hwnas.workload.sam.encoder_layers`, lowered as for a measurement. Maps are (row, column, channel).
Two things the measured network does not do, because it knows shapes alone:

* After `neck.2`: the kernel pads a map with the code nearest to zero, the subnet with zero itself.
  The difference depends on the position only, and is added as a table.
* `LAYER.quantize`: where the device multiplies a quantized layer in floating point, the input is
  rounded to its grid before.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from hwnas.errors import DeviceError
from hwnas.export.tvm.weights import ProductWeight, array, grid_constants
from hwnas.export.tvm.writer import BoundProgram, ProgramWriter
from hwnas.measure.builder import Builder
from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels.attention import pack_table
from hwnas.measure.kernels.family import Array
from hwnas.measure.kernels.isa import Isa
from hwnas.measure.kernels.rows import EPSILON
from hwnas.measure.lowering import steps_of_layers
from hwnas.quant.linear import FloatLinear
from hwnas.supernet.attention import Attention
from hwnas.supernet.encoder_view import BlockView, Norm
from hwnas.supernet.neck_conv import FloatConv, IntegerConv
from hwnas.supernet.subnet import Subnet
from hwnas.workload.sam import EncoderPlan, encoder_layers

__all__ = ["EMBEDDING", "IMAGE", "encoder_program", "norm_constants"]

IMAGE: Final = "image"
"""Input: a normalized image (R, R, 3)."""
EMBEDDING: Final = "neck.3"
"""Output: the embedding (g, g, 256)."""

_CHANNELS: Final = 3
_BYTE: Final = 8


def encoder_program(subnet: Subnet, builder: Builder) -> BoundProgram:
    """Write the encoder of a subnet for the builder's device.

    Raises:
        DeviceError: the device cannot run a pair of bit-widths as the subnet defines it, or a
            kernel cannot be built.
    """
    plan, view = subnet.plan, subnet.view()
    writer = ProgramWriter(builder, steps_of_layers(encoder_layers(plan), builder.device))
    _check_attention(plan, builder)
    x = writer.input(IMAGE, plan.resolution**2 * _CHANNELS)
    x = _product(writer, "patch_embed", view.patch_embed, x, order=_patch_order(view.patch))
    x = writer.run("pos_embed", (x, writer.table("pos_embed.table", array(view.position))))
    for place, block in enumerate(view.blocks):
        if place == view.pool_before:
            x = writer.run("pool", (x,))
        x = _block(writer, block, x)
    if view.pool_before is not None:
        x = writer.run("neck.resize", (x,))
    x = _product(writer, "neck.0", view.neck_linear, x)
    x = writer.run("neck.1", (x,), norm_constants(view.neck_norm))
    x = _conv(writer, view.neck_conv, x, plan.grid)
    x = writer.run(EMBEDDING, (x,), norm_constants(view.out_norm))
    return writer.finish((x,))


def _check_attention(plan: EncoderPlan, builder: Builder) -> None:
    """Refuse before anything is compiled what no kernel computes as the subnet defines it."""
    for block in plan.blocks:
        runs = builder.device.execution(block.attn_bits, block.attn_bits)
        if block.attn_bits <= _BYTE and runs.dtype != "int8":
            raise DeviceError(
                f"blocks.{block.index}: attention at {block.attn_bits} bits runs as {runs.dtype} "
                f"on {builder.device.id}, whose kernel keeps the softmax in floating point and "
                "would compute another network; export for a device with int8 arithmetic, or a "
                "subnet with 32 bits there"
            )


def norm_constants(norm: Any) -> Any:
    """Gain and shift of a layer norm, for `ProgramWriter.run`.

    Raises:
        DeviceError: it adds something else to the variance than the kernel does.
    """
    if isinstance(norm, Norm) and norm.eps != EPSILON:
        raise DeviceError(
            f"a layer norm adds {norm.eps:g} to the variance, the kernel {EPSILON:g}; only SAM's "
            "own norms have a kernel"
        )
    return lambda kernel, isa: (array(norm.weight), array(norm.bias))


def _block(writer: ProgramWriter, block: BlockView, x: str) -> str:
    name = f"blocks.{block.index}"
    y = writer.run(f"{name}.norm1", (x,), norm_constants(block.norm1))
    if block.window:
        y = writer.run(f"{name}.window", (y,))
    y = _product(writer, f"{name}.qkv", block.qkv, y)
    y = _attention(writer, f"{name}.qk", block.attention, y)
    y = _product(writer, f"{name}.proj", block.proj, y)
    if block.window:
        y = writer.run(f"{name}.unwindow", (y,))
    x = writer.run(f"{name}.add1", (x, y))
    y = writer.run(f"{name}.norm2", (x,), norm_constants(block.norm2))
    y = _product(writer, f"{name}.lin1", block.lin1, y)
    y = writer.run(f"{name}.gelu", (y,))
    y = _product(writer, f"{name}.lin2", block.lin2, y)
    return writer.run(f"{name}.add2", (x, y))


def _product(
    writer: ProgramWriter, name: str, layer: Any, x: str, order: Array | None = None
) -> str:
    """A linear layer, or a convolution whose depth is put in `order`."""
    measured, weight = writer.step(name), ProductWeight.of(layer)
    if order is not None:
        weight = weight.reordered(order)
    return _weighted(writer, name, measured, weight, x)


def _weighted(
    writer: ProgramWriter, name: str, measured: Kernel, weight: ProductWeight, x: str
) -> str:
    kernel = weight.kernel(measured)
    if weight.grid is not None and kernel.dtype != "int8":
        grid = weight.grid
        rounding = Kernel("quantize", (writer.size(kernel),), "fp32", 32, 32)
        x = writer.call(f"{name}.quantize", rounding, (x,), lambda *_: grid_constants(grid))
    return writer.call(name, kernel, (x,), weight.constants, measured=measured)


def _attention(writer: ProgramWriter, name: str, layer: Any, qkv: str) -> str:
    measured = kernel = writer.step(name)
    if kernel.kind != "attention":
        raise DeviceError(
            f"{name}: the device runs the two products of the attention in different arithmetic "
            f"({kernel.key} comes first), which has no kernel; give its profile one for both"
        )
    grids = layer.grids
    if grids is not None:
        if grids.bits < _BYTE:  # the measured kernel is the same but for the ends of the codes
            kernel = replace(kernel, w_bits=grids.bits, a_bits=grids.bits)
    return writer.call(
        name, kernel, (qkv,), partial(_attention_constants, layer=layer), measured=measured
    )


def _attention_constants(kernel: Kernel, isa: Isa, layer: Attention) -> tuple[Array, ...]:
    rows = 2 * layer.side - 1
    table = np.zeros((2 * rows, layer.head_dim), np.float32)
    if layer.table is not None:
        table = array(layer.table)
    # `by_offset` has both tables reversed, one above the other
    tables = tuple(pack_table(isa, half[::-1]) for half in (table[:rows], table[rows:]))
    if layer.grids is None:
        return tables
    g = layer.grids
    return (*tables, np.array([g.query, g.key, g.value, g.softmax], np.float32))


def _conv(writer: ProgramWriter, layer: Any, x: str, side: int) -> str:
    """The 3 x 3 convolution of the neck, and what its border lacks."""
    name = "neck.2"
    measured = writer.step(name)
    if isinstance(layer, FloatConv):
        flat = layer.weight.permute(0, 2, 3, 1).flatten(1)
        weight = ProductWeight.of(FloatLinear(flat, flat.new_zeros(len(flat)), layer.grid))
        return _weighted(writer, name, measured, weight, x)
    codes, grid = array(layer.weight), layer.grid
    scale = array(layer.factor).astype(np.float64) / grid.scale
    weight = ProductWeight(codes.T.astype(np.int64), scale, np.zeros(len(codes)), grid)
    border = _border(layer, scale, side)
    if measured.dtype != "int8" or not border.any():
        return _weighted(writer, name, measured, weight, x)
    y = _weighted(writer, f"{name}.product", measured, weight, x)
    kernel = Kernel("add", (border.size,), "fp32", 32, 32)
    return writer.call(name, kernel, (y, writer.table(f"{name}.border", border)))


def _border(layer: IntegerConv, scale: Array, side: int) -> Array:
    """What a convolution of a zero-padded map is less than one padded with the nearest code.

    (side·side, O): minus the value of that code times the weights of all taps outside of the map.
    """
    grid = layer.grid
    inverse, offset = np.float32(1 / grid.scale), np.float32(grid.offset)
    code = np.clip(np.rint((np.float32(0) - offset) * inverse), 0, grid.highest)
    value = float(code) * grid.scale + grid.offset
    taps = layer.weight.view(len(scale), 3, 3, -1).sum(-1).double()  # (O, 3, 3)
    taps = taps * torch.from_numpy(scale)[:, None, None]
    ones = torch.ones(1, 1, side, side, dtype=torch.float64)
    inside = functional.conv2d(ones, taps[:, None], padding=1)[0]  # (O, side, side)
    outside = taps.sum((1, 2))[:, None, None] - inside
    # rounding must not leave crumbs within the map
    outside[:, 1:-1, 1:-1] = 0
    return np.asarray((-value * outside).flatten(1).T.numpy(), np.float32)


def _patch_order(patch: int) -> Array:
    """Where (row, column, channel) of a patch lie in (channel, row, column)."""
    places = np.arange(_CHANNELS * patch * patch).reshape(_CHANNELS, patch, patch)
    return np.ascontiguousarray(places.transpose(1, 2, 0)).ravel()
