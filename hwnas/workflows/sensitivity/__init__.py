"""What each group costs at each option: written as matrices, and held against measured losses."""

from hwnas.workflows.sensitivity.check import GroupLoss, PlanRank, SensitivityCheck
from hwnas.workflows.sensitivity.study import (
    SensitivityOptions,
    SensitivityStudy,
    study_sensitivity,
)

__all__ = [
    "GroupLoss",
    "PlanRank",
    "SensitivityCheck",
    "SensitivityOptions",
    "SensitivityStudy",
    "study_sensitivity",
]
