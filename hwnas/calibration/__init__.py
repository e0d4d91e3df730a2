"""Judging predictors: rank metrics, held-out splits, conformal intervals.

Numbers in, numbers out: nothing here knows architectures, weights or devices.
"""

from hwnas.calibration.conformal import conformal_quantile, fewest_residuals
from hwnas.calibration.rank_metrics import kendall_tau, spearman_rho, top_k_overlap
from hwnas.calibration.repeated import mean_by_name
from hwnas.calibration.splits import hold_out

__all__ = [
    "conformal_quantile",
    "fewest_residuals",
    "hold_out",
    "kendall_tau",
    "mean_by_name",
    "spearman_rho",
    "top_k_overlap",
]
