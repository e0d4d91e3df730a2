"""Cost models: the seam, what a model may ask for, and tables that price whole populations."""

from __future__ import annotations

from hwnas.cost.building import build, check_values
from hwnas.cost.context import CostContext
from hwnas.cost.model import (
    Breakdown,
    CostBatch,
    CostModel,
    Direction,
    Estimating,
    Fidelity,
    Fittable,
    SupernetLike,
    estimate,
)
from hwnas.cost.slot_tables import SlotTables

__all__ = [
    "Breakdown",
    "CostBatch",
    "CostContext",
    "CostModel",
    "Direction",
    "Estimating",
    "Fidelity",
    "Fittable",
    "SlotTables",
    "SupernetLike",
    "build",
    "check_values",
    "estimate",
]
