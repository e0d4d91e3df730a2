"""Whether a proxy prefers deep networks more than quality does.

A sum over layers grows with every layer, so that a search with it drifts to deep, thin networks.
Source: Lee et al., "ZiCo-BC" (ICCV workshops 2023), who correct ZiCo for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hwnas.calibration import spearman_rho
from hwnas.calibration.bootstrap import draw_rows, each_draw, spearman_of_draws
from hwnas.calibration.partial import partial_spearman
from hwnas.cost.proxies import DEPTH, LOG_MACS
from hwnas.workflows.study_proxies.judge import Figure

if TYPE_CHECKING:
    from hwnas.workflows.study_proxies.study import ProxyStudy

__all__ = ["QUALITY", "DepthBias", "depth_bias"]

Float = NDArray[np.float64]
QUALITY = "quality itself"


@dataclass(frozen=True, slots=True)
class DepthBias:
    """How a score of n networks goes with their depth, the number of layers with weights.

    Attributes:
        name: Of the cost model, or `QUALITY`.
        with_depth: Spearman's rho with depth.
        at_equal_macs: The same after log MACs are taken out: whether it prefers the deeper of two
            networks of one cost.
        top: How many networks are the top.
        depth_of_top: Mean depth of the networks that score best.
        depth_of_all: Mean depth of all.
    """

    name: str
    with_depth: Figure
    at_equal_macs: Figure
    top: int
    depth_of_top: float
    depth_of_all: float


def depth_bias(study: ProxyStudy) -> tuple[DepthBias, ...]:
    """What is said of quality, and then of each cost model, oriented as quality is taken to grow.

    Empty where the space does not say what its layers are.
    """
    baselines = {row.name: row.values for row in study.rows if row.baseline}
    if not {DEPTH, LOG_MACS} <= set(baselines):
        return ()
    scores = {QUALITY: study.subnets.iou} | {
        row.name: row.values if row.better == "higher" else -row.values
        for row in study.rows
        if not row.baseline
    }
    options = study.options
    rng = np.random.default_rng(options.seed)
    drawn = draw_rows(len(study.subnets), options.bootstrap, rng)
    return tuple(
        _bias(name, score, baselines[DEPTH], baselines[LOG_MACS], drawn, options.top)
        for name, score in scores.items()
    )


def _bias(
    name: str, score: Float, depth: Float, macs: Float, drawn: NDArray[np.intp], share: float
) -> DepthBias:
    def of_rows(rows: Sequence[int] | NDArray[np.intp]) -> float | None:
        return partial_spearman(depth[rows], score[rows], macs[rows, None])

    top = max(1, round(share * len(score)))
    best = np.argsort(-score, kind="stable")[:top]
    rho = spearman_rho(depth, score)
    return DepthBias(
        name,
        Figure.of(rho, spearman_of_draws(depth, score, drawn)),
        Figure.of(of_rows(np.arange(len(score))), each_draw(of_rows, drawn)),
        top,
        float(depth[best].mean()),
        float(depth.mean()),
    )
