"""How far predictions are off, and how well they order things: the figures of every report.

    MAPE = 100 / n x sum |p - y| / y        within k % = share with |p - y| <= k % of y

An error says nothing of the order and the order nothing of the error: in a flat space a constant is
within 10 % of everything. So they are always given together.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from hwnas.calibration.rank_metrics import kendall_tau, spearman_rho
from hwnas.errors import ConfigError

__all__ = ["Accuracy"]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Predictions p against true values y, both positive and in one unit.

    Attributes:
        n: How many were compared.
        mape: Mean of |p - y| / y in percent.
        median_ape: Median of the same.
        within_5pct: Share of p within 5 % of y, 0 to 1.
        within_10pct: Share within 10 %.
        kendall_tau: Kendall's tau-b, None where it is not defined.
        spearman: Spearman's rho, likewise.
    """

    n: int
    mape: float
    median_ape: float
    within_5pct: float
    within_10pct: float
    kendall_tau: float | None
    spearman: float | None

    @classmethod
    def of(cls, true: ArrayLike, predicted: ArrayLike) -> Self:
        """Compare two lists of one length, none of them empty.

        Raises:
            ConfigError: there is nothing to compare, or a true value is not positive.
        """
        y, p = np.asarray(true, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
        if not y.size or not (y > 0).all():
            raise ConfigError(
                f"{y.size} true values, {int((y <= 0).sum())} of them not positive; expected at "
                "least one, all positive: relative errors need them"
            )
        tau, rho = kendall_tau(y, p), spearman_rho(y, p)
        error = np.abs(p - y) / y
        # a value that is off by exactly 10 % is within it, whatever its last bit
        within_5, within_10 = (float((error <= k + 1e-12).mean()) for k in (0.05, 0.10))
        mean, median = 100.0 * float(error.mean()), 100.0 * float(np.median(error))
        return cls(len(y), mean, median, within_5, within_10, tau, rho)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Read `to_dict` back."""
        return cls(**{field.name: content[field.name] for field in fields(cls)})

    def row(self) -> dict[str, object]:
        """The figures under the headings of a table for people."""
        return {
            "n": self.n,
            "MAPE %": self.mape,
            "within 5 %": self.within_5pct,
            "within 10 %": self.within_10pct,
            "Kendall tau": self.kendall_tau,
            "Spearman": self.spearman,
        }
