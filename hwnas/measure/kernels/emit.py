"""Small steps that the kernels are written with, on top of TVM's IR builder.

A kernel is a Python function that emits loops, loads and stores; loops that it runs in Python are
unrolled. Every buffer is one-dimensional, and every index counts scalars.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

__all__ = [
    "across",
    "broadcast",
    "constant",
    "each",
    "erf",
    "exp",
    "function",
    "gelu",
    "ir",
    "load",
    "pieces",
    "store",
    "tiles",
    "vector",
]

Expr = Any
Buffer = Any


def ir() -> Any:
    """Return TVM's builder of tensor programs, imported when first needed."""
    from tvm.tirx.script import builder

    return builder


def function(arguments: Sequence[tuple[str, int, str]], body: Callable[..., None]) -> Any:
    """Build a function `main` of flat buffers (name, scalars, data type) that do not overlap."""
    from tvm.script.ir_builder import IRBuilder

    t = ir()
    with IRBuilder() as builder, t.prim_func(s_tir=True):
        t.func_name("main")
        t.func_attr({"tirx.noalias": True, "global_symbol": "main"})
        body(*(t.arg(name, t.Buffer((elems,), dtype)) for name, elems, dtype in arguments))
    return builder.get()


def load(buffer: Buffer, at: Expr, lanes: int) -> Expr:
    """Read `lanes` neighbors as a vector, or a scalar if `lanes` is 1."""
    return buffer[at] if lanes == 1 else buffer.vload([at], f"{buffer.dtype}x{lanes}")


def store(buffer: Buffer, value: Expr, at: Expr, lanes: int) -> None:
    """Write a vector of `lanes` neighbors, or a scalar if `lanes` is 1."""
    t = ir()
    t.buffer_store(buffer, value, [at if lanes == 1 else t.ramp(at, 1, lanes)])


def broadcast(value: Expr, lanes: int) -> Expr:
    """Put a scalar into every lane."""
    return value if lanes == 1 else ir().broadcast(value, lanes)


def constant(value: float, dtype: str, lanes: int) -> Expr:
    """A number in every lane."""
    import tvm

    return broadcast(tvm.tirx.const(value, dtype), lanes)


def pieces(size: int, lanes: int) -> list[tuple[int, int]]:
    """Cut `size` scalars into (start, vector length), powers of two up to `lanes`."""
    cut, start = [], 0
    while start < size:
        width = min(lanes, 1 << int(math.log2(size - start)))
        cut.append((start, width))
        start += width
    return cut


def tiles(size: int, tile: int, body: Callable[[Expr, int], None], *, parallel: bool) -> None:
    """Run `body(start, size of the tile)` over `size`, with one smaller tile for the rest."""
    t = ir()
    whole, rest = divmod(size, tile)
    if whole:
        with (t.parallel if parallel else t.serial)(0, whole) as index:
            body(index * tile, tile)
    if rest:
        body(whole * tile, rest)


def each(lanes: int, size: int, some: Callable[[Expr, int], None]) -> None:
    """Run `some(start, vector length)` over `size` scalars: whole vectors, then shorter ones."""
    t = ir()
    whole = size // lanes
    if whole:
        with t.serial(0, whole) as i:
            some(i * lanes, lanes)
    for start, n in pieces(size - whole * lanes, lanes):
        some(whole * lanes + start, n)


def across(value: Expr, lanes: int, join: Callable[[Expr, Expr], Expr]) -> Expr:
    """Join the lanes of a vector to a scalar, by halves."""
    t = ir()
    value = t.bind(value)
    while lanes > 2:
        lanes //= 2
        kind = vector("float32", lanes)
        value = t.bind(join(t.vectorlow(kind, value), t.vectorhigh(kind, value)))
    pair = t.alloc_buffer((2,), "float32", scope="local")
    store(pair, value, 0, 2)
    return t.bind(join(pair[0], pair[1]))


def exp(x: Expr, lanes: int) -> Expr:
    """E to the x by 2^n times a polynomial, relative error below 3e-7; 0 below -87."""
    t = ir()

    def c(value: float) -> Expr:
        return constant(value, "float32", lanes)

    x = t.bind(t.max(t.min(x, c(88.0)), c(-87.0)))
    n = t.bind(t.nearbyint(x * c(math.log2(math.e))))
    f = t.bind((x - n * c(0.693359375)) - n * c(-2.12194440e-4))
    p = c(1.9875691500e-4)
    for a in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5):
        p = p * f + c(a)
    p = t.bind(p * f * f + f + c(1.0))
    bits = (t.Cast(vector("int32", lanes), n) + constant(127, "int32", lanes)) << constant(
        23, "int32", lanes
    )
    return t.bind(p * t.reinterpret(vector("float32", lanes), bits))


_ERF_OVER = (
    -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
    -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02,
)  # fmt: skip
_ERF_UNDER = (
    -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
    -1.42647390514189e-02,
)  # fmt: skip


def erf(x: Expr, lanes: int) -> Expr:
    """Error function as a quotient of polynomials in x squared, error below 5e-7 (from Eigen)."""
    t = ir()

    def c(value: float) -> Expr:
        return constant(value, "float32", lanes)

    def polynomial(square: Expr, coefficients: Sequence[float]) -> Expr:
        p = c(coefficients[0])
        for a in coefficients[1:]:
            p = p * square + c(a)
        return t.bind(p)

    x = t.bind(t.max(t.min(x, c(4.0)), c(-4.0)))
    square = t.bind(x * x)
    return x * polynomial(square, _ERF_OVER) / polynomial(square, _ERF_UNDER)


def gelu(x: Expr, lanes: int) -> Expr:
    """X times the normal distribution's integral up to x."""
    half, root = constant(0.5, "float32", lanes), constant(math.sqrt(0.5), "float32", lanes)
    return half * x * (constant(1.0, "float32", lanes) + erf(x * root, lanes))


def vector(dtype: str, lanes: int) -> str:
    """Name of a vector data type: `float32x16`, or `float32` for one lane."""
    return dtype if lanes == 1 else f"{dtype}x{lanes}"
