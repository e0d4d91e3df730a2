"""The same kernels as tensor expressions, for GPUs, scheduled by TVM's dlight rules.

Arguments and constants are those of the processor's kernels for a vector unit of one lane without a
dot instruction: weights are (columns, depth), narrow ones packed along the depth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hwnas.errors import DeviceError
from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels import packing
from hwnas.measure.kernels.gpu_moving import MOVING
from hwnas.measure.kernels.gpu_terms import Expr, compute, flat, inside, number, softmax_of, total
from hwnas.measure.kernels.isa import Isa
from hwnas.measure.kernels.product import Product

__all__ = ["GPU", "emit_gpu", "schedule_gpu"]

GPU: Final = Isa("gpu", 1, 255, "none", True)
"""What weights are packed for."""


def emit_gpu(kernel: Kernel) -> Any:
    """Write a kernel of any kind as tensor expressions over flat buffers.

    Raises:
        DeviceError: the kind has no GPU kernel.
    """
    from tvm import te

    if kernel.kind not in _KINDS:
        raise DeviceError(
            f"{kernel.key}: no GPU kernels of kind {kernel.kind!r}; known: {', '.join(_KINDS)}"
        )
    return te.create_prim_func(_KINDS[kernel.kind](kernel))


def schedule_gpu(module: Any, target: Any) -> Any:
    """Bind the loops of a module to threads."""
    from tvm.s_tir import dlight as dl

    rules = (dl.gpu.Matmul(), dl.gpu.Reduction(), dl.gpu.GeneralReduction())
    with target:
        try:
            return dl.ApplyDefaultSchedule(*rules, dl.gpu.Fallback())(module)
        except AssertionError:  # what dlight's analysis says to the windows of a strided sum
            return dl.ApplyDefaultSchedule(dl.gpu.Fallback())(module)


def _codes(x: Expr, quantizer: Expr) -> Expr:
    from tvm import te

    code = te.nearbyint((x - quantizer[1]) * quantizer[0])
    return te.max(te.min(code, quantizer[2]), number(0)).astype("int32")


def _unpacked(packed: Expr, column: Expr, k: Expr, depth: int, bits: int) -> Expr:
    """The signed code of a weight, multiplied as `packing.code_factor` says."""
    parts, size = packing.quads_of_step(bits), packing.step_bytes(GPU, bits)
    at, part = (column * (depth // parts) + k // parts) * size, k % parts

    def byte(index: Expr) -> Expr:
        return packed[index].astype("int32") & 255

    if bits == 6:
        top = (byte(at + part // 2) >> (part % 2 * 4) & 15) << 4
        code = top | (byte(at + 2) >> (part * 2) & 3) << 2
    else:
        code = byte(at) >> (part * bits) << (8 - bits)
    return code.astype("int8").astype("int32")


def _reinterpreted(bits: Expr) -> Expr:
    import tvm

    return tvm.tirx.reinterpret("float32", bits)


def _product(kernel: Kernel) -> list[Expr]:
    """Linear layers, convolutions and transposed convolutions."""
    from tvm import te

    p, bits = Product.of(kernel), kernel.w_bits
    whole, narrow = kernel.dtype == "int8", kernel.w_bits < 16
    depth = packing.padded(p.depth, packing.quads_of_step(bits)) if narrow else p.depth
    x, y_scale = flat("x", p.in_elems), flat("scale", p.columns)
    quantizer, shift = flat("quantizer", 3), flat("shift", p.columns)
    stored = {"fp16": "float16", "bf16": "uint16"}.get(kernel.dtype, "float32")
    weight = flat("weight", p.columns * depth * bits // 8 if narrow else p.columns * depth,
                    "int8" if narrow else stored)  # fmt: skip

    def left(row: Expr, k: Expr) -> Expr:
        if not p.copies:
            return x[row * p.depth + te.min(k, p.depth - 1)]
        channel, place = k % p.channels, k // p.channels
        h = row // p.side * p.stride + place // p.patch - p.padding
        w = row % p.side * p.stride + place % p.patch - p.padding
        value = x[inside((h * p.in_side + w) * p.channels + channel, p.in_elems)]
        if not p.padding and depth == p.depth:
            return value
        within = te.all(h >= 0, h < p.in_side, w >= 0, w < p.in_side)
        return te.if_then_else(within, value, number(0))

    def right(column: Expr, k: Expr) -> Expr:
        if narrow:
            return _unpacked(weight, column, k, depth, bits)
        value = weight[column * depth + k]
        if kernel.dtype == "bf16":  # the upper half of a float32
            return _reinterpreted(value.astype("uint32") << 16)
        return value.astype("float32")

    kind = "int32" if whole else "float32"
    a = compute(
        (p.rows, depth),
        lambda i, k: _codes(left(i, k), quantizer) if whole else left(i, k),
        "left",
    )
    b = compute((p.columns, depth), lambda n, k: right(n, k).astype(kind), "right")
    c = total((p.rows, p.columns), depth, lambda i, n, k: a[i, k] * b[n, k], "product")

    def place(at: Expr) -> tuple[Expr, Expr]:
        if p.spread == 1:
            return at // p.columns, at % p.columns
        pixel, channel, line = at // p.c_out, at % p.c_out, p.side * p.spread
        h, w = pixel // line, pixel % line
        cell = h % p.spread * p.spread + w % p.spread
        return h // p.spread * p.side + w // p.spread, cell * p.c_out + channel

    def result(at: Expr) -> Expr:
        i, n = place(at)
        value = c[i, n].astype("float32")
        return (value * y_scale[n] if narrow else value) + shift[n]

    y = compute((p.rows * p.columns,), result, "y")
    return [
        x, *([quantizer] if whole else []), weight, *([y_scale] if narrow else []), shift, y,
    ]  # fmt: skip


def _depthwise(kernel: Kernel) -> list[Expr]:
    from tvm import te

    channels, _, taps, stride, _, side = kernel.shape
    whole, source = kernel.dtype == "int8", side * stride
    x, quantizer = flat("x", source**2 * channels), flat("quantizer", 3)
    stored = "int8" if whole else {"fp16": "float16"}.get(kernel.dtype, "float32")
    weight = flat("weight", taps**2 * channels, stored)
    scale, shift = flat("scale", channels), flat("shift", channels)

    wide = (side - 1) * stride + max(taps, stride)

    def number_at(row: Expr, column: Expr, c: Expr) -> Expr:
        h, w = row - taps // 2, column - taps // 2
        within = te.all(h >= 0, h < source, w >= 0, w < source)
        at = inside((h * source + w) * channels + c, source**2 * channels)
        value = te.if_then_else(within, x[at], number(0))
        return _codes(value, quantizer).astype("float32") if whole else value

    padded = compute((wide, wide, channels), number_at, "padded")

    def tap(h: Expr, w: Expr, c: Expr, k: Expr) -> Expr:
        value = padded[h * stride + k // taps, w * stride + k % taps, c]
        return value * weight[k * channels + c].astype("float32")

    sums = total((side, side, channels), taps**2, tap, "sums")

    def result(at: Expr) -> Expr:
        pixel, c = at // channels, at % channels
        value = sums[pixel // side, pixel % side, c]
        return (value * scale[c] if whole else value) + shift[c]

    y = compute((side**2 * channels,), result, "y")
    return [x, *([quantizer] if whole else []), weight, *([scale] if whole else []), shift, y]


def _rounded(x: Expr, scale: Expr, low: float, high: float) -> Expr:
    from tvm import te

    one = number(1)
    return te.max(te.min(te.nearbyint(x * (one / scale)), number(high)), number(low)) * scale


def _attend(q: Expr, k: Expr, v: Expr, scales: Expr | None, bias: Any) -> Expr:
    """Attention of (heads, tokens, dim) each; `bias` adds to the scores of rounded queries."""

    def quantized(x: Expr, which: int) -> Expr:
        if scales is None:
            return x
        low, high = (-128.0, 127.0) if which < 3 else (0.0, 255.0)
        shape = tuple(int(n) for n in x.shape)
        return compute(shape, lambda *i: _rounded(x[i], scales[which], low, high), f"code{which}")

    q, k, v = (quantized(x, i) for i, x in enumerate((q, k, v)))
    heads, queries, dim = (int(n) for n in q.shape)
    keys = int(k.shape[1])
    products = total(
        (heads, queries, keys), dim, lambda h, i, j, d: q[h, i, d] * k[h, j, d], "scores"
    )
    added = bias(q) if bias else None

    def score(h: Expr, i: Expr, j: Expr) -> Expr:
        value = products[h, i, j] * number(dim**-0.5)
        return value if added is None else value + added(h, i, j)

    soft = softmax_of(compute((heads, queries, keys), score, "biased"))
    weights = quantized(soft, 3)
    return total(
        (heads, queries, dim), keys, lambda h, i, d, j: weights[h, i, j] * v[h, j, d], "values"
    )


def _attention(kernel: Kernel) -> list[Expr]:
    windows, heads, side, dim = kernel.shape
    length, inner, width = side * side, heads * dim, 2 * side
    qkv = flat("qkv", windows * length * 3 * inner)
    tables = [flat(name, dim * width) for name in ("vertical", "horizontal")]
    scales = flat("scales", 4) if kernel.dtype == "int8" else None

    def part(which: int) -> Expr:
        def value(h: Expr, i: Expr, d: Expr) -> Expr:
            token = h // heads * length + i
            return qkv[(token * 3 + which) * inner + h % heads * dim + d]

        return compute((windows * heads, length, dim), value, f"part{which}")

    def bias(q: Expr) -> Callable[..., Expr]:
        def product(table: Expr, place: Callable[[Expr], Expr], name: str) -> Expr:
            # the tables' distances fall, so a key further on lies further on
            return total(
                (windows * heads, length, side),
                dim,
                lambda h, i, j, d: q[h, i, d] * table[d * width + side - 1 - place(i) + j],
                name,
            )

        up = product(tables[0], lambda i: i // side, "rel_h")
        across = product(tables[1], lambda i: i % side, "rel_w")
        return lambda h, i, j: up[h, i, j // side] + across[h, i, j % side]

    out = _attend(part(0), part(1), part(2), scales, bias)

    def result(at: Expr) -> Expr:
        token, head = at // inner, at % inner // dim
        return out[token // length * heads + head, token % length, at % dim]

    y = compute((windows * length * inner,), result, "y")
    return [qkv, *tables, *([] if scales is None else [scales]), y]


def _cross(kernel: Kernel) -> list[Expr]:
    heads, queries, keys, dim = kernel.shape
    inner = heads * dim
    inputs = [flat(name, n * inner) for name, n in (("q", queries), ("k", keys), ("v", keys))]
    scales = flat("scales", 4) if kernel.dtype == "int8" else None

    def view(x: Expr, tokens: int) -> Expr:
        return compute(
            (heads, tokens, dim), lambda h, i, d: x[i * inner + h * dim + d], f"{x.op.name}_view"
        )

    q, k, v = (view(x, n) for x, n in zip(inputs, (queries, keys, keys), strict=True))
    out = _attend(q, k, v, scales, None)
    y = compute((queries * inner,), lambda f: out[f % inner // dim, f // inner, f % dim], "y")
    return [*inputs, *([] if scales is None else [scales]), y]


def _matmul(kernel: Kernel) -> list[Expr]:
    batch, rows, inner, columns = kernel.shape
    a, b = flat("a", batch * rows * inner), flat("b", batch * inner * columns)
    scales = flat("scales", 2) if kernel.dtype == "int8" else None

    def side(x: Expr, which: int) -> Expr:
        return x if scales is None else _rounded(x, scales[which], -128.0, 127.0)

    left = compute(
        (batch, rows, inner), lambda n, i, k: side(a[(n * rows + i) * inner + k], 0), "left"
    )
    right = compute(
        (batch, inner, columns), lambda n, k, j: side(b[(n * inner + k) * columns + j], 1), "right"
    )
    c = total(
        (batch, rows, columns), inner, lambda n, i, j, k: left[n, i, k] * right[n, k, j], "product"
    )
    y = compute(
        (batch * rows * columns,),
        lambda f: c[f // (rows * columns), f // columns % rows, f % columns],
        "y",
    )
    return [a, b, *([] if scales is None else [scales]), y]


_KINDS: Final[dict[str, Callable[[Kernel], list[Expr]]]] = {
    "linear": _product,
    "conv": _product,
    "conv_transpose": _product,
    "dwconv": _depthwise,
    "attention": _attention,
    "cross_attention": _cross,
    "matmul": _matmul,
    **MOVING,
}
