"""NAS-LoRA adapters and inputs for the tests."""

from __future__ import annotations

from typing import Any

import torch

from hwnas.adapters import MatrixSlice
from hwnas.adapters.kinds.nas_lora import NasLoraAdapter

WHOLE = MatrixSlice(16, 24)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(seed: int = 0, whole: MatrixSlice = WHOLE, **options: Any) -> NasLoraAdapter:
    """A NAS-LoRA adapter whose factors and architecture have moved."""
    adapter = NasLoraAdapter(whole, rng=rng(seed), **options)
    with torch.no_grad():
        adapter.B.normal_(generator=rng(seed + 1))
        for p in adapter.cell.architecture():
            p.normal_(generator=rng(seed + 2))
    return adapter


def images(*leading: int, seed: int = 5) -> torch.Tensor:
    return torch.randn(*(leading or (2, 6, 6)), WHOLE.inp, generator=rng(seed))
