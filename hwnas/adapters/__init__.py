"""Small trained additions to frozen weights, merged inside the quantizer."""

from __future__ import annotations

from hwnas.adapters.bank import AdapterBank
from hwnas.adapters.building import block_linears, build_adapters
from hwnas.adapters.contract import MatrixSlice, WeightAdapter
from hwnas.adapters.layout import Layout

__all__ = [
    "AdapterBank",
    "Layout",
    "MatrixSlice",
    "WeightAdapter",
    "block_linears",
    "build_adapters",
]
