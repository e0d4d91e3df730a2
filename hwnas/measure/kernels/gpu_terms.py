"""Terms of tensor expressions that the GPU kernels share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Expr", "compute", "flat", "inside", "number", "softmax_of", "total"]

Expr = Any


def flat(name: str, size: int, dtype: str = "float32") -> Expr:
    """An argument of one dimension."""
    from tvm import te

    return te.placeholder((size,), dtype, name)


def number(value: float) -> Expr:
    """A float32 constant."""
    import tvm

    return tvm.tirx.const(value, "float32")


def compute(shape: tuple[int, ...], value: Callable[..., Expr], name: str) -> Expr:
    """A tensor of `value` at every place."""
    from tvm import te

    return te.compute(shape, value, name)


def total(shape: tuple[int, ...], depth: int, value: Callable[..., Expr], name: str) -> Expr:
    """Sum `value(*place, k)` over k for every place."""
    from tvm import te

    k = te.reduce_axis((0, depth), "k")
    return te.compute(shape, lambda *at: te.sum(value(*at, k), axis=k), name)


def inside(index: Expr, size: int) -> Expr:
    """Keep an index within a buffer; what it reads there is not used."""
    from tvm import te

    return te.max(te.min(index, size - 1), 0)


def softmax_of(scores: Expr) -> Expr:
    """Softmax over the last axis."""
    from tvm import te

    *rows, columns = (int(n) for n in scores.shape)
    k = te.reduce_axis((0, columns), "k")
    top = te.compute(tuple(rows), lambda *i: te.max(scores[(*i, k)], axis=k), "top")
    raised = compute((*rows, columns), lambda *i: te.exp(scores[i] - top[i[:-1]]), "raised")
    sums = total(tuple(rows), columns, lambda *i: raised[i], "sums")
    return compute((*rows, columns), lambda *i: raised[i] / sums[i[:-1]], "soft")
