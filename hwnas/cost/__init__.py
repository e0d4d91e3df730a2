"""Cost models: the seam, what a model may ask for, and tables that price whole populations."""

from __future__ import annotations

from hwnas.cost.additive import Additive, AdditiveTables
from hwnas.cost.building import build, check_values
from hwnas.cost.context import CostContext
from hwnas.cost.learning import FitReport, Judged, Refinement, Refining
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
from hwnas.cost.needs import declared_needs, is_ready, missing_needs
from hwnas.cost.slot_tables import SlotTables

__all__ = [
    "Additive",
    "AdditiveTables",
    "Breakdown",
    "CostBatch",
    "CostContext",
    "CostModel",
    "Direction",
    "Estimating",
    "Fidelity",
    "FitReport",
    "Fittable",
    "Judged",
    "Refinement",
    "Refining",
    "SlotTables",
    "SupernetLike",
    "build",
    "check_values",
    "declared_needs",
    "estimate",
    "is_ready",
    "missing_needs",
]
