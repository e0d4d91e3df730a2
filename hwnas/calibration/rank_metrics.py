"""How well predictions put things into the right order.

A search needs the order, not the value: a predictor that is off by a constant finds the same front.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwnas.errors import ConfigError

__all__ = ["kendall_tau", "spearman_rho", "top_k_overlap"]

Float = NDArray[np.float64]


def kendall_tau(true: ArrayLike, predicted: ArrayLike) -> float | None:
    """Kendall's tau-b of two lists of n numbers; None where one of them is constant, or n < 2.

        tau_b = (C - D) / sqrt((P - T_true) (P - T_predicted))

    with C concordant and D discordant pairs of the P = n (n - 1) / 2, and T the pairs tied in one
    list. Source: Kendall, "The treatment of ties in ranking problems", Biometrika 1945.

    Raises:
        ConfigError: the lists differ in length or hold what is not finite.
    """
    y, p = _pair(true, predicted)
    upper = np.triu_indices(len(y), k=1)
    dy, dp = np.sign(y[:, None] - y)[upper], np.sign(p[:, None] - p)[upper]
    comparable = float((dy != 0).sum()) * float((dp != 0).sum())
    return float((dy * dp).sum() / np.sqrt(comparable)) if comparable else None


def spearman_rho(true: ArrayLike, predicted: ArrayLike) -> float | None:
    """Spearman's rho: Pearson's correlation of the ranks, equal numbers sharing their mean rank.

    None where one of the lists is constant, or n < 2.

    Raises:
        ConfigError: as for `kendall_tau`.
    """
    y, p = (_ranks(values) for values in _pair(true, predicted))
    y, p = y - y.mean() if len(y) else y, p - p.mean() if len(p) else p
    scale = float(np.sqrt((y**2).sum() * (p**2).sum()))
    return float((y * p).sum() / scale) if scale else None


def top_k_overlap(true: ArrayLike, predicted: ArrayLike, k: int) -> float:
    """Share of the k truly largest among the k that are predicted to be; earlier ones win ties.

    Raises:
        ConfigError: k is not between 1 and n, or as for `kendall_tau`.
    """
    y, p = _pair(true, predicted)
    if not 1 <= k <= len(y):
        raise ConfigError(f"top_k_overlap: k is {k}; expected 1 to {len(y)}, the number of values")
    best = [set(np.argsort(-values, kind="stable")[:k].tolist()) for values in (y, p)]
    return len(best[0] & best[1]) / k


def _ranks(values: Float) -> Float:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean_rank: Float = last - (counts - 1) / 2.0
    return mean_rank[inverse]


def _pair(true: ArrayLike, predicted: ArrayLike) -> tuple[Float, Float]:
    y, p = np.asarray(true, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape:
        raise ConfigError(
            f"true values of shape {y.shape} and predicted ones of shape {p.shape}; expected two "
            "lists of one length"
        )
    if not (np.isfinite(y).all() and np.isfinite(p).all()):
        raise ConfigError("values to rank must be finite; leave out what failed")
    return y, p
