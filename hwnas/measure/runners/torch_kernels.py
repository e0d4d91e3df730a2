"""Every kind of kernel in eager PyTorch, and what arithmetic it has there.

Shapes are those of `hwnas.measure.kernels`; buffers are flat, maps have their channels last.
Integer arithmetic exists for `linear` alone (`torch._int_mm`, on CUDA from 17 rows on and for
multiples of 8); other integer kernels run in floating point. Narrow weights are held as 8 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import torch
from torch.nn import functional as F

from hwnas.measure.kernel import Kernel
from hwnas.measure.program import Constant
from hwnas.measure.runners.bench import Unsupported

__all__ = ["TorchKernel", "torch_kernel"]

Tensor = torch.Tensor

_FLOATS: Final = {
    "fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16,
}  # fmt: skip
_INT_MM_ROWS: Final = 17
_INT_MM_MULTIPLE: Final = 8


@dataclass(frozen=True)
class TorchKernel:
    """A kernel as PyTorch runs it.

    Attributes:
        inputs: Scalars of each activation.
        constants: In the order in which `run` takes them.
        output: Scalars of the output.
        run: From flat inputs and flat constants to the output.
        ran: The arithmetic, in words.
    """

    inputs: tuple[int, ...]
    constants: tuple[Constant, ...]
    output: int
    run: Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
    ran: str


def torch_kernel(kernel: Kernel, activation: torch.dtype) -> TorchKernel:
    """Return the kernel; activations between kernels are of type `activation`.

    Raises:
        Unsupported: PyTorch has no such arithmetic, or nobody has written the kind.
    """
    if kernel.kind not in _KINDS:
        raise Unsupported(f"{kernel.key}: the torch runner has no kernels of kind {kernel.kind!r}")
    return _KINDS[kernel.kind](kernel, activation)


def _float(kernel: Kernel, activation: torch.dtype) -> torch.dtype:
    """The floating-point type that a kernel multiplies in; integer ones use the activations'."""
    if kernel.dtype.startswith("int"):
        return activation
    if kernel.dtype not in _FLOATS:
        raise Unsupported(f"{kernel.key}: eager PyTorch does not multiply {kernel.dtype}")
    return _FLOATS[kernel.dtype]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _linear(kernel: Kernel, activation: torch.dtype) -> TorchKernel:
    rows, c_in, c_out = kernel.shape
    bias = Constant(c_out, _name(activation))
    if kernel.dtype.startswith("int") and _int_mm_fits(kernel, activation):

        def integer(x: Sequence[Tensor], c: Sequence[Tensor]) -> Tensor:
            rounded = (x[0].view(rows, c_in) * 40).round_().clamp_(-128, 127).to(torch.int8)
            sums = torch._int_mm(rounded, c[0].view(c_out, c_in).t())
            return torch.addcmul(c[2], sums.to(activation), c[1])

        codes = Constant(c_out * c_in, "int8")
        held = (codes, bias, bias)
        return TorchKernel((rows * c_in,), held, rows * c_out, integer, "int8 by torch._int_mm")
    dtype = _float(kernel, activation)

    def floating(x: Sequence[Tensor], c: Sequence[Tensor]) -> Tensor:
        weight = c[0].view(c_out, c_in)
        return F.linear(x[0].view(rows, c_in).to(dtype), weight, c[1].to(dtype)).to(activation)

    constants = (Constant(c_out * c_in, _name(dtype)), bias)
    ran = f"{_name(dtype)} linear"
    return TorchKernel((rows * c_in,), constants, rows * c_out, floating, ran)


def _int_mm_fits(kernel: Kernel, activation: torch.dtype) -> bool:
    rows, c_in, c_out = kernel.shape
    multiple = c_in % _INT_MM_MULTIPLE == 0 and c_out % _INT_MM_MULTIPLE == 0
    return activation == torch.float32 or (rows >= _INT_MM_ROWS and multiple)


def _conv(kernel: Kernel, activation: torch.dtype) -> TorchKernel:
    c_in, c_out, taps, stride, groups, side = kernel.shape
    source, dtype = side * stride, _float(kernel, activation)
    before = (taps - stride) // 2
    after = max(0, taps - stride - before)

    def run(x: Sequence[Tensor], c: Sequence[Tensor]) -> Tensor:
        maps = x[0].view(1, source, source, c_in).permute(0, 3, 1, 2).to(dtype)
        if taps > stride:
            maps = F.pad(maps, (before, after, before, after))
        weight = c[0].view(c_out, c_in // groups, taps, taps)
        y = F.conv2d(maps, weight, c[1].to(dtype), stride, groups=groups)
        return y.permute(0, 2, 3, 1).to(activation)

    weight = Constant(c_out * c_in // groups * taps * taps, _name(dtype))
    return TorchKernel(
        (source * source * c_in,), (weight, Constant(c_out, _name(activation))),
        side * side * c_out, run, f"{_name(dtype)} conv2d",
    )  # fmt: skip


def _conv_transpose(kernel: Kernel, activation: torch.dtype) -> TorchKernel:
    c_in, c_out, taps, _, _, side = kernel.shape
    dtype = _float(kernel, activation)

    def run(x: Sequence[Tensor], c: Sequence[Tensor]) -> Tensor:
        maps = x[0].view(1, side, side, c_in).permute(0, 3, 1, 2).to(dtype)
        y = F.conv_transpose2d(maps, c[0].view(c_in, c_out, taps, taps), c[1].to(dtype), taps)
        return y.permute(0, 2, 3, 1).to(activation)

    weight = Constant(c_in * c_out * taps * taps, _name(dtype))
    return TorchKernel(
        (side * side * c_in,), (weight, Constant(c_out, _name(activation))),
        (side * taps) ** 2 * c_out, run, f"{_name(dtype)} conv_transpose2d",
    )  # fmt: skip


def _attention(kernel: Kernel, activation: torch.dtype) -> TorchKernel:
    windows, heads, side, dim = kernel.shape
    tokens, dtype = side * side, _float(kernel, activation)
    elems = windows * tokens * heads * dim

    def run(x: Sequence[Tensor], c: Sequence[Tensor]) -> Tensor:
        qkv = x[0].view(windows, tokens, 3, heads, dim).permute(2, 0, 3, 1, 4).to(dtype)
        q, k, v = qkv.unbind(0)
        tables = [table.view(2 * side - 1, dim).to(dtype) for table in c]
        y = F.scaled_dot_product_attention(q, k, v, _relative(q, tables, side))
        return y.transpose(1, 2).to(activation)

    table = Constant((2 * side - 1) * dim, _name(activation))
    return TorchKernel(
        (3 * elems,), (table, table), elems, run,
        f"{_name(dtype)} scaled_dot_product_attention with relative positions",
    )  # fmt: skip


def _relative(q: Tensor, tables: Sequence[Tensor], side: int) -> Tensor:
    """Relative positions as SAM adds them to the scores, (windows, heads, tokens, tokens)."""
    distance = _distances(side, q.device)
    maps = q.reshape(*q.shape[:2], side, side, q.shape[-1])
    rows = torch.einsum("bnhwc,hkc->bnhwk", maps, tables[0][distance])
    columns = torch.einsum("bnhwc,wkc->bnhwk", maps, tables[1][distance])
    bias = rows[..., :, None] + columns[..., None, :]
    return bias.reshape(*q.shape[:2], side * side, side * side)


@cache
def _distances(side: int, device: torch.device) -> Tensor:
    grid = torch.arange(side, device=device)
    return grid[:, None] - grid[None, :] + side - 1


def _cross_attention(kernel: Kernel, activation: torch.dtype) -> TorchKernel:
    heads, queries, keys, dim = kernel.shape
    dtype = _float(kernel, activation)

    def run(x: Sequence[Tensor], c: Sequence[Tensor]) -> Tensor:
        q, k, v = (part.view(1, -1, heads, dim).transpose(1, 2).to(dtype) for part in x)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).to(activation)

    wide = heads * dim
    return TorchKernel(
        (queries * wide, keys * wide, keys * wide), (), queries * wide, run,
        f"{_name(dtype)} scaled_dot_product_attention",
    )  # fmt: skip


def _matmul(kernel: Kernel, activation: torch.dtype) -> TorchKernel:
    batch, rows, inner, columns = kernel.shape
    dtype = _float(kernel, activation)

    def run(x: Sequence[Tensor], c: Sequence[Tensor]) -> Tensor:
        left, right = x[0].view(batch, rows, inner), x[1].view(batch, inner, columns)
        return torch.bmm(left.to(dtype), right.to(dtype)).to(activation)

    sizes = (batch * rows * inner, batch * inner * columns)
    return TorchKernel(sizes, (), batch * rows * columns, run, f"{_name(dtype)} bmm")


def _norm(kernel: Kernel, activation: torch.dtype) -> TorchKernel:
    rows, channels = kernel.shape

    def run(x: Sequence[Tensor], c: Sequence[Tensor]) -> Tensor:
        return F.layer_norm(x[0].view(rows, channels), (channels,), c[0], c[1])

    constant = Constant(channels, _name(activation))
    size = rows * channels
    return TorchKernel((size,), (constant, constant), size, run, f"{_name(activation)} layer_norm")


def _softmax(kernel: Kernel, activation: torch.dtype) -> TorchKernel:
    rows, channels = kernel.shape
    return _plain((rows * channels,), rows * channels, activation, "softmax")(
        lambda x: x[0].view(rows, channels).softmax(-1)
    )


def _plain(
    inputs: tuple[int, ...], output: int, activation: torch.dtype, name: str
) -> Callable[[Callable[[Sequence[Tensor]], Tensor]], TorchKernel]:
    def of(body: Callable[[Sequence[Tensor]], Tensor]) -> TorchKernel:
        ran = f"{_name(activation)} {name}"
        return TorchKernel(inputs, (), output, lambda x, _: body(x), ran)

    return of


def _elementwise(
    name: str, operands: int, body: Callable[[Sequence[Tensor]], Tensor]
) -> Callable[[Kernel, torch.dtype], TorchKernel]:
    def of(kernel: Kernel, activation: torch.dtype) -> TorchKernel:
        size = math.prod(kernel.shape)
        return _plain((size,) * operands, size, activation, name)(body)

    return of


def _quantize(kernel: Kernel, activation: torch.dtype) -> TorchKernel:
    size = math.prod(kernel.shape)

    def run(x: Sequence[Tensor], c: Sequence[Tensor]) -> Tensor:
        scale, inverse, offset, highest = c[0].unbind()
        codes = torch.round((x[0] - offset) * inverse).clamp_min_(0)
        return torch.minimum(codes, highest) * scale + offset

    constant = Constant(4, _name(activation))
    return TorchKernel((size,), (constant,), size, run, f"{_name(activation)} quantize")


def _copy(kernel: Kernel, activation: torch.dtype) -> TorchKernel:
    size = math.prod(kernel.shape)
    constant = Constant(size, _name(activation))
    return TorchKernel((), (constant,), size, lambda _, c: c[0].clone(), "clone")


def _window(kernel: Kernel, activation: torch.dtype) -> TorchKernel:
    side, window, channels = kernel.shape
    count = -(-side // window)
    full = count * window

    def run(x: Sequence[Tensor]) -> Tensor:
        maps = F.pad(x[0].view(side, side, channels), (0, 0, 0, full - side, 0, full - side))
        cut = maps.view(count, window, count, window, channels).transpose(1, 2)
        return cut.contiguous()

    whole, cut = side * side * channels, full * full * channels
    return _plain((whole,), cut, activation, "window partition")(run)


def _unwindow(kernel: Kernel, activation: torch.dtype) -> TorchKernel:
    side, window, channels = kernel.shape
    count = -(-side // window)
    full = count * window

    def run(x: Sequence[Tensor]) -> Tensor:
        cut = x[0].view(count, count, window, window, channels).transpose(1, 2)
        return cut.reshape(full, full, channels)[:side, :side].contiguous()

    whole, cut = side * side * channels, full * full * channels
    return _plain((cut,), whole, activation, "window reversal")(run)


def _pool(kernel: Kernel, activation: torch.dtype) -> TorchKernel:
    side, channels, square = kernel.shape
    out = side // square

    def run(x: Sequence[Tensor]) -> Tensor:
        maps = x[0].view(1, side, side, channels).permute(0, 3, 1, 2)
        return F.avg_pool2d(maps, square).permute(0, 2, 3, 1)

    return _plain((side * side * channels,), out * out * channels, activation, "avg_pool2d")(run)


def _resize(kernel: Kernel, activation: torch.dtype) -> TorchKernel:
    side, channels, out = kernel.shape

    def run(x: Sequence[Tensor]) -> Tensor:
        maps = x[0].view(1, side, side, channels).permute(0, 3, 1, 2)
        y = F.interpolate(maps, (out, out), mode="bilinear", align_corners=False)
        return y.permute(0, 2, 3, 1)

    return _plain((side * side * channels,), out * out * channels, activation, "interpolate")(run)


def _fourier(kernel: Kernel, activation: torch.dtype) -> TorchKernel:
    points, frequencies = kernel.shape

    def run(x: Sequence[Tensor], c: Sequence[Tensor]) -> Tensor:
        angle = 2 * math.pi * ((2 * x[0].view(points, 2) - 1) @ c[0].view(2, frequencies))
        return torch.cat((angle.sin(), angle.cos()), 1)

    constant = Constant(2 * frequencies, _name(activation))
    return TorchKernel((points * 2,), (constant,), points * 2 * frequencies, run, "sin and cos")


_KINDS: Final[dict[str, Callable[[Kernel, torch.dtype], TorchKernel]]] = {
    "linear": _linear,
    "conv": _conv,
    "dwconv": _conv,
    "conv_transpose": _conv_transpose,
    "attention": _attention,
    "cross_attention": _cross_attention,
    "matmul": _matmul,
    "norm": _norm,
    "softmax": _softmax,
    "add": _elementwise("add", 2, lambda x: x[0] + x[1]),
    "gelu": _elementwise("gelu", 1, lambda x: F.gelu(x[0])),
    "relu": _elementwise("relu", 1, lambda x: F.relu(x[0])),
    "copy": _copy,
    "quantize": _quantize,
    "window": _window,
    "unwindow": _unwindow,
    "pool": _pool,
    "resize": _resize,
    "fourier": _fourier,
}
