"""Losses of blocks put together to the score of a network; lower is better.

    sum       Σ_b NSR_b                              DONNAv2: the block loss is the surrogate
    sum_log   Σ_b log(NSR_b + 1e-4)                  for spreads of several decades
    sum_norm  Σ_b (NSR_b - mean_b) / sd_b            over the options of a slot
    fisher    Σ_b Σ_x Σ (dL/dY_b ⊙ (S_b - T_b))²     slots weighed by the task loss
    ridge     w·NSR + c, w >= 0                      DONNA's predictor; fitted on stitched networks
    replace1  Σ_b NSR of the teacher's embedding with this block alone swapped in; Puzzle, LANA

All are sums over slots, so that exact search takes them as they are. DONNA's second-order terms
are left out for that reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from hwnas.blocks.library import BlockRecord, Library
from hwnas.calibration import kendall_tau
from hwnas.errors import CostError

__all__ = ["SCORES", "Ridge", "Score", "block_values", "fit_ridge"]

Float = NDArray[np.float64]
Score = Literal["sum", "sum_log", "sum_norm", "fisher", "ridge", "replace1"]
SCORES: tuple[Score, ...] = get_args(Score)

_SMALL = 1e-4  # added before the logarithm, for the teacher's own block
_FEWEST = 10  # networks that a ridge is fitted on
_PENALTY = 1e-2  # of the ridge, on losses that are divided by their standard deviation


@dataclass(frozen=True, eq=False)
class Ridge:
    """Non-negative weights (B,) and constant of a predictor of the network's loss.

    `tau` is the rank correlation of predictions with the networks, each left out once.
    """

    weights: Float
    constant: float
    tau: float | None
    networks: int


def block_values(library: Library, score: Score) -> dict[tuple[int, str], float]:
    """What each block of a library adds to the score of a network, by slot and name.

    The constant of `ridge` is shared by the slots.

    Raises:
        CostError: the library lacks what the score is made of; says how to measure it.
    """
    if score == "replace1":
        return _replaced(library)
    if score == "ridge":
        ridge = fit_ridge(library)
        share = ridge.constant / library.slots
        return {
            key: float(ridge.weights[record.slot] * record.nsr + share)
            for key, record in library.blocks.items()
        }
    if score == "sum_norm":
        return _normed(library)
    return {key: _value(library, record, score) for key, record in library.blocks.items()}


def fit_ridge(library: Library) -> Ridge:
    """Fit min |X w + c - y|² + penalty |w|², w >= 0, on the stitched networks of a library.

    X (n, B) are block losses, each slot's divided by its standard deviation; y (n,) the ratios of
    the networks' embeddings.

    Raises:
        CostError: fewer than ten networks were run.
    """
    known = library.blocks
    usable = [
        network for network in library.networks
        if all((slot, block) in known for slot, block in enumerate(network.blocks))
    ]  # fmt: skip
    if len(usable) < _FEWEST:
        raise CostError(
            f"{library.path}: a ridge is fitted on {_FEWEST} networks or more, {len(usable)} were "
            "run; run some with `hwnas blocks score LIBRARY --networks 20`"
        )
    x = np.array([
        [known[slot, block].nsr for slot, block in enumerate(network.blocks)] for network in usable
    ])  # fmt: skip
    y = np.array([network.nsr for network in usable])
    left_out = [_fit(np.delete(x, row, 0), np.delete(y, row)) for row in range(len(y))]
    predicted = [float(x[row] @ w + c) for row, (w, c) in enumerate(left_out)]
    weights, constant = _fit(x, y)
    return Ridge(weights, constant, kendall_tau(y, predicted), len(y))


def _fit(x: Float, y: Float) -> tuple[Float, float]:
    """Non-negative ridge by least squares with rows for the penalty; the constant is free."""
    scale = np.maximum(x.std(axis=0), 1e-12)
    centered, target = (x - x.mean(axis=0)) / scale, y - y.mean()
    slots = x.shape[1]
    rows = np.vstack([centered, np.sqrt(_PENALTY * len(y)) * np.eye(slots)])
    weights = nnls(rows, np.concatenate([target, np.zeros(slots)]))[0] / scale
    return weights, float(y.mean() - x.mean(axis=0) @ weights)


def _value(library: Library, record: BlockRecord, score: Score) -> float:
    if score == "sum":
        return record.nsr
    if score == "sum_log":
        return float(np.log(record.nsr + _SMALL))
    if record.fisher_of_images is None:
        raise CostError(
            f"{library.path}: no gradients were taken for block {record.block} of slot "
            f"{record.slot}; build the library with annotated images, or choose the score sum"
        )
    return float(np.mean(record.fisher_of_images))


def _normed(library: Library) -> dict[tuple[int, str], float]:
    found: dict[tuple[int, str], float] = {}
    for slot in range(library.slots):
        records = library.of_slot(slot)
        losses = np.array([record.nsr for record in records])
        spread = float(losses.std())
        if not spread:
            raise CostError(
                f"{library.path}: all {len(records)} blocks of slot {slot} have the same loss; "
                "train more of them, or choose the score sum"
            )
        for record in records:
            found[slot, record.block] = float((record.nsr - losses.mean()) / spread)
    return found


def _replaced(library: Library) -> dict[tuple[int, str], float]:
    missing = [key for key in library.blocks if key not in library.replaced]
    if missing:
        slot, block = missing[0]
        raise CostError(
            f"{library.path}: {len(missing)} of {len(library.blocks)} blocks were not put into the "
            f"teacher alone ({block} of slot {slot} is the first); measure them with `hwnas blocks "
            "score LIBRARY --replace`"
        )
    return {key: library.replaced[key] for key in library.blocks}
