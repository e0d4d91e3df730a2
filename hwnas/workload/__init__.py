"""Workloads: the layers of an architecture, their shapes and their counts, without torch."""

from __future__ import annotations

from hwnas.workload import ops
from hwnas.workload.layers import FLOAT_BITS, KINDS, LayerSpec, Workload
from hwnas.workload.sam_geometry import GEOMETRIES, SamGeometry
from hwnas.workload.table import LayerTable, WorkloadBatch

__all__ = [
    "FLOAT_BITS",
    "GEOMETRIES",
    "KINDS",
    "LayerSpec",
    "LayerTable",
    "SamGeometry",
    "Workload",
    "WorkloadBatch",
    "ops",
]
