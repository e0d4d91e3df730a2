"""GPU kernels without products, as tensor expressions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels.gpu_terms import Expr, compute, flat, inside, number, softmax_of, total
from hwnas.measure.kernels.rows import EPSILON

__all__ = ["MOVING"]


def _norm(kernel: Kernel) -> list[Expr]:
    from tvm import te

    rows, channels = kernel.shape
    x = flat("x", rows * channels)
    gain, shift = flat("gain", channels), flat("shift", channels)
    part = number(1 / channels)
    mean = total((rows,), channels, lambda i, k: x[i * channels + k] * part, "mean")
    centered = compute((rows, channels), lambda i, k: x[i * channels + k] - mean[i], "centered")
    variance = total(
        (rows,), channels, lambda i, k: centered[i, k] * centered[i, k] * part, "variance"
    )

    def result(f: Expr) -> Expr:
        i, k = f // channels, f % channels
        return centered[i, k] / te.sqrt(variance[i] + number(EPSILON)) * gain[k] + shift[k]

    return [x, gain, shift, compute((rows * channels,), result, "y")]


def _softmax(kernel: Kernel) -> list[Expr]:
    rows, columns = kernel.shape
    x = flat("x", rows * columns)
    soft = softmax_of(compute((rows, columns), lambda i, k: x[i * columns + k], "view"))
    y = compute((rows * columns,), lambda f: soft[f // columns, f % columns], "y")
    return [x, y]


def _elementwise(operands: int, value: Callable[..., Expr]) -> Callable[[Kernel], list[Expr]]:
    def write(kernel: Kernel) -> list[Expr]:
        (size,) = kernel.shape
        x = [flat(name, size) for name in ("a", "b")[:operands]]
        return [*x, compute((size,), lambda i: value(*(b[i] for b in x)), "y")]

    return write


def _gelu(x: Expr) -> Expr:
    from tvm import te

    return number(0.5) * x * (number(1) + te.erf(x * number(0.5**0.5)))


def _relu(x: Expr) -> Expr:
    from tvm import te

    return te.max(x, number(0))


def _quantize(kernel: Kernel) -> list[Expr]:
    from tvm import te

    (size,) = kernel.shape
    x, grid = flat("x", size), flat("grid", 4)

    def result(i: Expr) -> Expr:
        code = te.nearbyint((x[i] - grid[2]) * grid[1])
        return te.max(te.min(code, grid[3]), number(0)) * grid[0] + grid[2]

    return [x, grid, compute((size,), result, "y")]


def _window(kernel: Kernel) -> list[Expr]:
    from tvm import te

    side, window, channels = kernel.shape
    count, area = -(-side // window), window * window
    whole, cut = side * side * channels, count * count * area * channels

    def into(f: Expr) -> Expr:
        token, c = f // channels, f % channels
        w, place = token // area, token % area
        row = w // count * window + place // window
        column = w % count * window + place % window
        value = x[inside((row * side + column) * channels + c, whole)]
        return te.if_then_else(te.all(row < side, column < side), value, number(0))

    def back(f: Expr) -> Expr:
        token, c = f // channels, f % channels
        row, column = token // side, token % side
        w = row // window * count + column // window
        return x[(w * area + row % window * window + column % window) * channels + c]

    if kernel.kind == "window":
        x = flat("x", whole)
        return [x, compute((cut,), into, "y")]
    x = flat("x", cut)
    return [x, compute((whole,), back, "y")]


def _pool(kernel: Kernel) -> list[Expr]:
    side, channels, square = kernel.shape
    out, x = side // square, flat("x", side * side * channels)

    def cell(pixel: Expr, c: Expr, k: Expr) -> Expr:
        h, w = pixel // out * square + k // square, pixel % out * square + k % square
        return x[(h * side + w) * channels + c] * number(1 / square**2)

    mean = total((out * out, channels), square**2, cell, "mean")
    y = compute((out * out * channels,), lambda f: mean[f // channels, f % channels], "y")
    return [x, y]


def _resize(kernel: Kernel) -> list[Expr]:
    from tvm import te

    side, channels, out = kernel.shape
    x, ratio = flat("x", side * side * channels), side / out

    def place(i: Expr) -> tuple[Expr, Expr, Expr]:
        at = te.max(i.astype("float32") * number(ratio) + number(0.5 * ratio - 0.5), number(0))
        low = te.min(at.astype("int32"), side - 1)
        return low, te.min(low + 1, side - 1), at - low.astype("float32")

    def result(f: Expr) -> Expr:
        pixel, c = f // channels, f % channels
        (top, bottom, down), (left, right, across) = place(pixel // out), place(pixel % out)

        def line(h: Expr) -> Expr:
            a, b = (x[(h * side + w) * channels + c] for w in (left, right))
            return a + (b - a) * across

        return line(top) + (line(bottom) - line(top)) * down

    return [x, compute((out * out * channels,), result, "y")]


def _fourier(kernel: Kernel) -> list[Expr]:
    import math

    from tvm import te

    points, width = kernel.shape
    xy, frequencies = flat("xy", points * 2), flat("frequencies", 2 * width)

    def result(f: Expr) -> Expr:
        p, k = f // (2 * width), f % width
        u, v = (xy[p * 2 + i] * number(2) - number(1) for i in range(2))
        angle = (u * frequencies[k] + v * frequencies[width + k]) * number(2 * math.pi)
        return te.if_then_else(f % (2 * width) < width, te.sin(angle), te.cos(angle))

    return [xy, frequencies, compute((points * 2 * width,), result, "y")]


MOVING: Final[dict[str, Callable[[Kernel], list[Expr]]]] = {
    "norm": _norm,
    "softmax": _softmax,
    "add": _elementwise(2, lambda a, b: a + b),
    "gelu": _elementwise(1, _gelu),
    "relu": _elementwise(1, _relu),
    "copy": _elementwise(1, lambda a: a),
    "quantize": _quantize,
    "window": _window,
    "unwindow": _window,
    "pool": _pool,
    "resize": _resize,
    "fourier": _fourier,
}
