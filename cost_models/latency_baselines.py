"""What the latency predictor is compared with: each fitted on the same rows, judged on the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from cost_models.latency_columns import Columns, GeneColumns, LayerColumns, LinearColumns
from cost_models.latency_linear import LinearFit
from cost_models.quality_features import QualityFeatures
from cost_models.quality_xgb import Trees
from cost_models.roofline import Roofline
from hwnas.cost import CostContext
from hwnas.space import Archs

__all__ = ["FitPredict", "baselines_of"]

Float = NDArray[np.float64]
FitPredict = Callable[[Archs, Float, Archs], Float]


def baselines_of(
    context: CostContext, columns: Mapping[str, Columns], prompts: int
) -> dict[str, FitPredict]:
    """Return functions (archs, ms, other archs) -> predicted ms, by name.

    `MACs alone` is a power law of the MACs; `roofline` is the estimate as it is, `sum of kernels`
    the measured table as it is; `XGBoost on genes` regresses ln ms.
    """
    found: dict[str, FitPredict] = {"median": _median}
    layers = next((c for c in columns.values() if isinstance(c, LayerColumns)), None)
    if layers is not None:
        found["MACs alone"] = lambda a, y, b: _power_law(layers, a, y, b)
        if context.device is not None:
            found["roofline"] = lambda a, y, b: Roofline(context, prompts=prompts).evaluate(b)
    kernels = columns.get("sum of kernels")
    if isinstance(kernels, LinearColumns):
        found["sum of kernels"] = lambda a, y, b: _as_it_is(kernels, b)
    table = GeneColumns(context, log=False)
    found["additive table"] = lambda a, y, b: LinearFit.of(table.matrix(a), y).predict(
        table.matrix(b)
    )
    found["XGBoost on genes"] = lambda a, y, b: _trees(QualityFeatures(context.space), a, y, b)
    return found


def _median(archs: Archs, y: Float, others: Archs) -> Float:
    return np.full(len(others), float(np.median(y)))


def _power_law(layers: LayerColumns, archs: Archs, y: Float, others: Archs) -> Float:
    column = layers.names.index("total GMACs")
    x, z = (np.log(layers.matrix(a)[:, [column]]) for a in (archs, others))
    return LinearFit.of(x, y, log=True).predict(z)


def _as_it_is(columns: LinearColumns, archs: Archs) -> Float:
    out: Float = columns.matrix(archs) @ columns.prior
    return out


def _trees(features: QualityFeatures, archs: Archs, y: Float, others: Archs) -> Float:
    plain = len(features.whole.feature_names)  # without the summaries: genes alone
    x, z = (features.matrix(a)[:, :plain] for a in (archs, others))
    signs = [0] * plain
    fitted = Trees.fitted(x, np.log(y), np.ones(len(y)), signs, members=1, trees=300, max_depth=4)
    out: Float = np.exp(fitted.predict(z)[0])
    return out
