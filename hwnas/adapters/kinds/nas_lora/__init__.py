"""NAS-LoRA and NAS-PC-LoRA: low-rank adapters with a searched cell, and honest exports."""

from __future__ import annotations

from hwnas.adapters.kinds.nas_lora.adapter import NasLoraAdapter, NasPcLoraAdapter
from hwnas.adapters.kinds.nas_lora.cell import Cell
from hwnas.adapters.kinds.nas_lora.folding import (
    FOLD_MODES,
    cells,
    fold_cells,
    fold_residuals,
    recorded,
)
from hwnas.adapters.kinds.nas_lora.operations import OP_SETS, OPERATIONS

__all__ = [
    "FOLD_MODES",
    "OPERATIONS",
    "OP_SETS",
    "Cell",
    "NasLoraAdapter",
    "NasPcLoraAdapter",
    "cells",
    "fold_cells",
    "fold_residuals",
    "recorded",
]
