"""Integer matrix products of int8 codes, where this machine multiplies them exactly."""

from __future__ import annotations

from functools import lru_cache

import torch

__all__ = ["integer_matmul", "integer_products_exact"]


@lru_cache(maxsize=1)
def integer_products_exact() -> bool:
    """Whether int8 x int8 -> int32 products are available on this CPU and never saturate.

    Processors without dot-product instructions add pairs of products in 16 bits, which overflows
    at the extremes of the range; they fail this test and keep floating-point arithmetic. The
    answer depends on the machine alone, so results on one machine do not vary.
    """
    if not hasattr(torch, "_int_mm"):
        return False
    codes = torch.tensor([-128, 127, -128, -128, 127, 127, -127, 1], dtype=torch.int8)
    a, b = codes.repeat(32, 64), codes.roll(3).repeat(48, 64)  # (32, 512), (48, 512)
    wide = a.double() @ b.double().t()
    extreme = torch.full((32, 512), -128, dtype=torch.int8)
    widest = extreme.double() @ extreme.double().t()
    try:
        same = torch.equal(integer_matmul(a, b).double(), wide)
        return same and torch.equal(integer_matmul(extreme, extreme).double(), widest)
    except RuntimeError:
        return False


def integer_matmul(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Product (M, O) int32 of int8 codes x (M, I) and weight (O, I)."""
    product: torch.Tensor = torch._int_mm(x, weight.t())
    return product
