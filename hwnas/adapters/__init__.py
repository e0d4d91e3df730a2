"""Small trained additions to frozen weights: on any model, or inside a supernet's quantizer."""

from __future__ import annotations

from hwnas.adapters.adapted_linear import AdaptedLinear
from hwnas.adapters.attaching import SAM_LINEARS, SAM_QKV, Attached, attach, detach, merge
from hwnas.adapters.bank import AdapterBank
from hwnas.adapters.building import block_linears, build_adapters
from hwnas.adapters.contract import MatrixSlice, NotFoldable, WeightAdapter
from hwnas.adapters.layer_quantizer import LayerQuantizer
from hwnas.adapters.layout import Layout

__all__ = [
    "SAM_LINEARS",
    "SAM_QKV",
    "AdaptedLinear",
    "AdapterBank",
    "Attached",
    "LayerQuantizer",
    "Layout",
    "MatrixSlice",
    "NotFoldable",
    "WeightAdapter",
    "attach",
    "block_linears",
    "build_adapters",
    "detach",
    "merge",
]
