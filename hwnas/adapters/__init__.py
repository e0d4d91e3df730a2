"""Small trained additions to frozen weights: on any model, or inside a supernet's quantizer."""

from __future__ import annotations

from hwnas.adapters.adapted_linear import AdaptedLinear
from hwnas.adapters.attaching import SAM_LINEARS, SAM_QKV, Attached, attach, detach, merge
from hwnas.adapters.bank import AdapterBank
from hwnas.adapters.building import block_linears, build_adapters
from hwnas.adapters.contract import MatrixSlice, NotFoldable, WeightAdapter
from hwnas.adapters.files import load, save
from hwnas.adapters.fusing import Overlap, fuse, overlaps
from hwnas.adapters.gradients import mean_gradients
from hwnas.adapters.kinds.dora import fold_magnitude, split_magnitude
from hwnas.adapters.layer_quantizer import LayerQuantizer
from hwnas.adapters.layout import Layout
from hwnas.adapters.low_rank import as_lora
from hwnas.adapters.switching import (
    AdapterSwitch,
    SparseWrite,
    code_writes,
    sparse_deltas,
    weight_writes,
)

__all__ = [
    "SAM_LINEARS",
    "SAM_QKV",
    "AdaptedLinear",
    "AdapterBank",
    "AdapterSwitch",
    "Attached",
    "LayerQuantizer",
    "Layout",
    "MatrixSlice",
    "NotFoldable",
    "Overlap",
    "SparseWrite",
    "WeightAdapter",
    "as_lora",
    "attach",
    "block_linears",
    "build_adapters",
    "code_writes",
    "detach",
    "fold_magnitude",
    "fuse",
    "load",
    "mean_gradients",
    "merge",
    "overlaps",
    "save",
    "sparse_deltas",
    "split_magnitude",
    "weight_writes",
]
