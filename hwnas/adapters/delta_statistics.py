"""Deltas of adapters compared: the directions they use, and how two interfere when merged.

The overlap of subspaces is that of Hu et al. (LoRA, 2021, section 7.2): |U_aᵀ U_b|² / min(rank),
1 where one contains the other, about rank / width for two drawn at random. The effective rank is
that of Roy and Vetterli (2007), the exponential of the entropy of the singular values' shares.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hwnas.errors import ConfigError

__all__ = ["DeltaOverlap", "DeltaSpread", "delta_overlap", "delta_spread"]

_NEGLIGIBLE = 1e-6


@dataclass(frozen=True, slots=True)
class DeltaSpread:
    """How a delta spreads over directions.

    `rank` counts singular values above 1e-6 of the largest, `effective_rank` weighs them evenly,
    `first_share` is the largest one's share of the squared norm, `norm` the Frobenius norm.
    """

    rank: int
    effective_rank: float
    first_share: float
    norm: float


@dataclass(frozen=True, slots=True)
class DeltaOverlap:
    """How two deltas of one layer relate.

    `rows` and `columns`: overlap of the subspaces of outputs and of inputs, 0 to 1. `cosine`: of
    the two as vectors, -1 to 1. `interference`: what adding the second changes in what the first
    does to its own inputs, relative to it; 0 if the second does nothing to them.
    """

    rows: float
    columns: float
    cosine: float
    interference: float


@torch.no_grad()
def delta_spread(delta: torch.Tensor) -> DeltaSpread:
    """The spread of the singular values of a delta (O, I); of nothing, zeros."""
    s = torch.linalg.svdvals(delta.double())
    if not s.any():
        return DeltaSpread(0, 0.0, 0.0, 0.0)
    share = s / s.sum()
    entropy = float(-torch.xlogy(share, share).sum())
    energy = s.square()
    return DeltaSpread(
        rank=int((s > _NEGLIGIBLE * s[0]).sum()),
        effective_rank=float(torch.tensor(entropy).exp()),
        first_share=float(energy[0] / energy.sum()),
        norm=float(energy.sum().sqrt()),
    )


@torch.no_grad()
def delta_overlap(first: torch.Tensor, second: torch.Tensor) -> DeltaOverlap:
    """The overlap of two deltas (O, I) of the same layer.

    Raises:
        ConfigError: the shapes differ, or one of them is all zeros.
    """
    if first.shape != second.shape or not (first.any() and second.any()):
        raise ConfigError(
            f"deltas of shapes {tuple(first.shape)} and {tuple(second.shape)}: expected two of the "
            "same layer, both trained"
        )
    (u, s, v), (other_u, _, other_v) = _directions(first), _directions(second)
    smaller = min(len(s), other_u.shape[1])
    a, b = first.double(), second.double()
    return DeltaOverlap(
        rows=float((u.t() @ other_u).square().sum() / smaller),
        columns=float((v @ other_v.t()).square().sum() / smaller),
        cosine=float((a * b).sum() / (a.norm() * b.norm())),
        interference=float((b @ v.t()).norm() / s.norm()),
    )


def _directions(delta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    u, s, v = torch.linalg.svd(delta.double(), full_matrices=False)
    kept = s > _NEGLIGIBLE * s[0]
    return u[:, kept], s[kept], v[kept]
