"""Matrix products in bfloat16 where a recipe asks for it; losses and quantizers in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

__all__ = ["Precision", "autocast", "float32"]

Precision = Literal["fp32", "bf16"]


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """A block whose matrix products are in bfloat16 ("bf16") or left as they are ("fp32").

    Weights and gradients stay float32. Take the backward pass outside of the block.
    """
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def float32(device: torch.device) -> AbstractContextManager[object]:
    """A block without autocast inside one with it; cast its inputs with `.float()`."""
    return torch.autocast(device.type, enabled=False)
