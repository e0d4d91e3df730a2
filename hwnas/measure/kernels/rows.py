"""Functions of whole rows: layer norm and softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels.emit import (
    Buffer,
    Expr,
    across,
    broadcast,
    constant,
    each,
    exp,
    function,
    ir,
    load,
    store,
)
from hwnas.measure.kernels.family import Array, Family, Problem
from hwnas.measure.kernels.isa import Isa

__all__ = ["EPSILON", "NORM", "SOFTMAX"]

_BESIDE = 4
EPSILON = 1e-6
"""What is added to a variance, as in SAM."""


def emit_norm(kernel: Kernel, isa: Isa) -> Any:
    """Write a layer norm: x (rows, channels), gain, shift, y."""
    rows, channels = kernel.shape

    def body(x: Buffer, gain: Buffer, shift: Buffer, y: Buffer) -> None:
        t = ir()
        one = constant(1 / channels, "float32", 1)
        with t.parallel(0, rows) as row:
            at = row * channels
            mean = t.bind(_sum(isa, channels, lambda i, n: load(x, at + i, n)) * one)

            def centered(i: Expr, n: int) -> Expr:
                return load(x, at + i, n) - broadcast(mean, n)

            def square(i: Expr, n: int) -> Expr:
                c = t.bind(centered(i, n))
                return c * c

            variance = t.bind(_sum(isa, channels, square) * one)
            by = t.bind(constant(1, "float32", 1) / t.sqrt(variance + t.float32(EPSILON)))

            def write(i: Expr, n: int) -> None:
                value = centered(i, n) * broadcast(by, n) * load(gain, i, n) + load(shift, i, n)
                store(y, value, at + i, n)

            each(isa.lanes, channels, write)

    size = rows * channels
    return function(
        [
            ("x", size, "float32"),
            ("gain", channels, "float32"),
            ("shift", channels, "float32"),
            ("y", size, "float32"),
        ],
        body,
    )


def emit_softmax(kernel: Kernel, isa: Isa) -> Any:
    """Write a softmax: x (rows, columns), y."""
    rows, columns = kernel.shape

    def body(x: Buffer, y: Buffer) -> None:
        t = ir()
        with t.parallel(0, rows) as row:
            at = row * columns
            largest = t.bind(_join(isa, columns, lambda i, n: load(x, at + i, n), t.max, -3e38))

            def raised(i: Expr, n: int) -> Expr:
                e = exp(load(x, at + i, n) - broadcast(largest, n), n)
                store(y, e, at + i, n)
                return e

            by = t.bind(constant(1, "float32", 1) / _sum(isa, columns, raised))

            def write(i: Expr, n: int) -> None:
                store(y, load(y, at + i, n) * broadcast(by, n), at + i, n)

            each(isa.lanes, columns, write)

    size = rows * columns
    return function([("x", size, "float32"), ("y", size, "float32")], body)


def _sum(isa: Isa, size: int, value: Any) -> Expr:
    return _join(isa, size, value, lambda a, b: a + b, 0.0)


def _join(isa: Isa, size: int, value: Any, join: Any, start: float) -> Expr:
    """Join `value(start, lanes)` of `size` scalars to one.

    Several vectors are joined side by side, because each waits for the one before it.
    """
    t, lanes = ir(), isa.lanes
    beside = min(_BESIDE, max(1, size // lanes))
    totals = t.alloc_buffer((beside * lanes,), "float32", scope="local")
    for i in range(beside):
        store(totals, constant(start, "float32", lanes), i * lanes, lanes)

    def add(at: Expr, n: int, slot: int) -> None:
        here = slot * lanes
        store(totals, t.bind(join(load(totals, here, n), value(at, n))), here, n)

    whole = size // (beside * lanes)
    if whole:
        with t.serial(0, whole) as step:
            for i in range(beside):
                add((step * beside + i) * lanes, lanes, i)
    done = whole * beside * lanes
    each(lanes, size - done, lambda at, n: add(done + at, n, 0))
    total = load(totals, 0, lanes)
    for i in range(1, beside):
        total = join(total, load(totals, i * lanes, lanes))
    return across(total, lanes, join)


def norm_problem(kernel: Kernel, isa: Isa, rng: np.random.Generator) -> Problem:
    """Draw rows, gain and shift."""
    rows, channels = kernel.shape
    x = rng.standard_normal((rows, channels), np.float32)
    gain, shift = rng.standard_normal((2, channels), np.float32)

    def expected() -> Array:
        import torch

        parts = (torch.from_numpy(v).double() for v in (x, gain, shift))
        a, b, c = parts
        y = torch.nn.functional.layer_norm(a, (channels,), b, c, EPSILON)
        return np.asarray(y.numpy()).ravel()

    return Problem((x.ravel(),), (gain, shift), x.size, expected)


def softmax_problem(kernel: Kernel, isa: Isa, rng: np.random.Generator) -> Problem:
    """Draw rows of scores."""
    x = 3 * rng.standard_normal(kernel.shape, np.float32)

    def expected() -> Array:
        import torch

        return np.asarray(torch.from_numpy(x).double().softmax(-1).numpy()).ravel()

    return Problem((x.ravel(),), (), x.size, expected)


NORM = Family(emit_norm, norm_problem)
SOFTMAX = Family(emit_softmax, softmax_problem)
