"""How much of a peak the layers of a network attain: kinds of layer and unfitted start values."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Final

from hwnas.errors import DeviceError

__all__ = ["LAYER_KINDS", "START_SOURCE", "START_VALUES", "layer_kind"]

START_VALUES: Final[dict[str, float]] = {
    "gemm": 0.5,
    "conv": 0.4,
    "dwconv": 0.08,
    "attention": 0.25,
    "memory": 0.7,
}
"""Fractions of the peak rate (`memory`: of the peak bandwidth) where nothing was fitted yet."""

START_SOURCE: Final = "start value, not fitted to any measurement"

LAYER_KINDS: Final[tuple[str, ...]] = tuple(START_VALUES)

# The kinds of a workload that carry another name there.
_OF_WORKLOAD: Final[dict[str, str]] = {
    "linear": "gemm",
    "matmul": "attention",
    **dict.fromkeys(
        ("softmax", "norm", "act", "add", "pool", "resize", "embed", "quantize", "window"), "memory"
    ),
}


def layer_kind(kind: str) -> str:
    """Return the kind that an efficiency is given for, from that name or a workload's.

    Raises:
        DeviceError: `kind` is neither.
    """
    name = _OF_WORKLOAD.get(kind, kind)
    if name not in START_VALUES:
        known = [*START_VALUES, *_OF_WORKLOAD]
        near = get_close_matches(kind, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DeviceError(
            f"no efficiency for layers of kind {kind!r}{hint} Known: {', '.join(known)}"
        )
    return name
