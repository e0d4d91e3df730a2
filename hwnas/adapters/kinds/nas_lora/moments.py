"""Second moments of what enters and leaves a cell: all that a fold and its residual need."""

from __future__ import annotations

import torch

__all__ = ["CellMoments"]

_RIDGE = 1e-6


class CellMoments:
    """Sums over tokens of z zᵀ, c zᵀ and cᵀc, for z (..., r) into the cell and c out of it.

    In float64, so that the residual of an exact fold is 0 to about 1e-7.
    """

    def __init__(self) -> None:
        self.zz: torch.Tensor | None = None
        self.cz: torch.Tensor | None = None
        self.cc = 0.0

    @torch.no_grad()
    def add(self, z: torch.Tensor, c: torch.Tensor) -> None:
        """Count tokens z and what the cell makes of them c, both (..., r)."""
        z, c = z.flatten(0, -2).double(), c.flatten(0, -2).double()
        zz, cz = z.t() @ z, c.t() @ z
        self.zz = zz if self.zz is None else self.zz + zz
        self.cz = cz if self.cz is None else self.cz + cz
        self.cc += float(c.square().sum())

    def best(self) -> torch.Tensor:
        """The matrix M (r, r) with the least |c - M z|²: E[c zᵀ] (E[z zᵀ] + eps I)^-1."""
        zz, cz = self._sums()
        ridge = _RIDGE * zz.diagonal().mean().clamp(min=1e-30)
        solved: torch.Tensor = torch.linalg.solve(zz + ridge * torch.eye(len(zz)).to(zz), cz.t())
        return solved.t().float()

    def residual(self, matrix: torch.Tensor) -> float:
        """|c - M z| / |c| over all tokens; 0 for a cell that gives nothing."""
        zz, cz = self._sums()
        m = matrix.detach().double()
        lost = self.cc - 2 * float((m * cz).sum()) + float(((m @ zz) * m).sum())
        return float((max(lost, 0.0) / self.cc) ** 0.5) if self.cc > 0 else 0.0

    def _sums(self) -> tuple[torch.Tensor, torch.Tensor]:
        if self.zz is None or self.cz is None:
            raise ValueError("no tokens have been seen; run the model on some images first")
        return self.zz, self.cz
