"""What a calibrated proxy learns: a fit, its errors, and whether it is worth using at all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cost_models.calibrated_fits import KINDS, Fit, Kind, fit_of, left_out
from hwnas.calibration import (
    conformal_quantile,
    fewest_residuals,
    hold_out,
    kendall_tau,
    spearman_rho,
)
from hwnas.calibration.bootstrap import draw_rows, kendall_of_draws
from hwnas.cost import FitReport

__all__ = ["LEVEL", "Comparison", "Examples", "Learned", "learn"]

Float = NDArray[np.float64]
LEVEL = 0.9
_HELD_OUT = 0.25
_BEYOND = 2.0  # how much wider an interval is where the fit extrapolates
_TINY = 1e-9
_TOGETHER = "counts together"
_LEAST_SPEARMAN = 0.3
_DRAWS, _SURE = 400, 0.95


@dataclass(frozen=True)
class Comparison:
    """Rank correlations of leaving one out: of the fit, and of the same fit on counts alone.

    One of `rivals` has to be beaten. `beaten` are those that the fit is better than in 19 of 20
    bootstrap draws of the subnets, which noise manages once in 20 times.
    """

    n: int
    kendall_tau: float | None
    spearman: float | None
    baselines: Mapping[str, float | None]
    rivals: tuple[str, ...]
    beaten: tuple[str, ...]

    @property
    def refusal(self) -> str | None:
        """Why the proxy should not be used, None where there is no reason."""
        if self.kendall_tau is None or self.spearman is None:
            return "it gives all subnets the same quality"
        if self.rivals and not self.beaten:
            return f"it beats none of {', '.join(self.rivals)}"
        if self.spearman < _LEAST_SPEARMAN:
            return f"Spearman's rho is below {_LEAST_SPEARMAN}"
        return None

    def __str__(self) -> str:
        """One clause for people."""
        own = (
            f"leave-one-out Kendall tau {_said(self.kendall_tau)}, Spearman {_said(self.spearman)}"
        )
        rest = ", ".join(f"{name} {_said(value)}" for name, value in self.baselines.items())
        return f"{own} on {self.n} subnets" + (f"; alone: {rest}" if rest else "")


def compared(kind: Kind, y: Float, predicted: Float, counts: Mapping[str, Float]) -> Comparison:
    """Compare left-out predictions (n,) of y (n,) with the same fit on each of the counts (n,).

    A ridge regression sees the counts as well, so its one rival is a ridge regression on them all.
    """
    found = {name: _alone(kind, values[:, None], y) for name, values in counts.items()}
    rivals = tuple(found)
    if kind == "ridge" and counts:
        found[_TOGETHER] = _alone(kind, np.stack(list(counts.values()), axis=1), y)
        rivals = (_TOGETHER,)
    rows = draw_rows(len(y), _DRAWS, np.random.default_rng(len(y)))
    own = kendall_of_draws(y, predicted, rows)
    apart = {name: own - kendall_of_draws(y, found[name], rows) for name in rivals}
    return Comparison(
        len(y),
        kendall_tau(y, predicted),
        spearman_rho(y, predicted),
        {name: kendall_tau(y, left) for name, left in found.items()},
        rivals,
        tuple(name for name, draws in apart.items() if _mostly_above(draws)),
    )


def _alone(kind: Kind, x: Float, y: Float) -> Float:
    """Leave-one-out predictions (n,) from counts, each in the direction that the labels show."""
    signs = [1 if (kendall_tau(y, column) or 0.0) >= 0 else -1 for column in x.T]
    return left_out(kind, x, y, signs)


def _mostly_above(draws: Float) -> bool:
    """Whether 19 of 20 are above 0; a count that orders nothing (NaN) is beaten by anything."""
    known = draws[~np.isnan(draws)]
    return not known.size or float((known > 0).mean()) >= _SURE


def _said(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


@dataclass(frozen=True, eq=False)
class Examples:
    """Qualities `y` (n,) of subnets with columns `x` (n, p) and counts of the network (n,).

    `signs` (p,) say in which direction quality goes with each column, `origin` where y is from.
    """

    ids: Sequence[str]
    x: Float
    y: Float
    signs: Sequence[int]
    counts: Mapping[str, Float]
    origin: str


@dataclass(frozen=True, eq=False)
class Learned:
    """A fit with what is known of its errors.

    The interval is value +- half; no half, no interval. `low` and `high` (p,) bound the columns
    that were fitted on.
    """

    fit: Fit
    half: float | None
    low: Float
    high: Float
    report: FitReport
    comparison: Comparison
    digest: str

    def beyond(self, x: Float) -> NDArray[np.bool_]:
        """Where x (n, p) lies outside what was fitted on, shape (n,)."""
        room = _TINY * (1.0 + np.abs(self.low) + np.abs(self.high))
        return np.asarray(((x < self.low - room) | (x > self.high + room)).any(axis=1), np.bool_)

    def interval(self, value: Float, beyond: NDArray[np.bool_]) -> tuple[Float, Float] | None:
        """Both ends for values (n,), within 0 to 1 where they are, or None."""
        if self.half is None:
            return None
        half = np.where(beyond, _BEYOND * self.half, self.half)
        lo: Float = np.minimum(np.maximum(value - half, 0.0), value)
        hi: Float = np.maximum(np.minimum(value + half, 1.0), value)
        return lo, hi

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; every float survives to the last bit."""
        return {
            "fit": self.fit.to_dict(), "half": self.half, "low": self.low.tolist(),
            "high": self.high.tolist(), "report": asdict(self.report),
            "comparison": asdict(self.comparison), "digest": self.digest,
        }  # fmt: skip

    @classmethod
    def of_dict(cls, content: Mapping[str, Any], kind: Kind) -> Self:
        """Read `to_dict` back."""
        comparison = dict(content["comparison"])
        comparison |= {name: tuple(comparison[name]) for name in ("rivals", "beaten")}
        return cls(
            KINDS[kind].of_dict(content["fit"]),
            content["half"],
            np.array(content["low"], dtype=np.float64),
            np.array(content["high"], dtype=np.float64),
            FitReport(**content["report"]),
            Comparison(**comparison),
            content["digest"],
        )


def learn(kind: Kind, given: Examples, *, unit: str) -> Learned:
    """Fit on three quarters of the subnets and read the interval off the rest.

    Where the rest would be too few for one, all are fitted on, and errors of leaving one out stand
    in (their coverage is close to the level, and not promised).
    """
    x, y = given.x, given.y
    held = _held_out(given.ids)
    fit = fit_of(kind, x[~held], y[~held], given.signs)
    left = left_out(kind, x, y, given.signs)
    judge = held if held.any() else np.ones(len(y), dtype=np.bool_)
    value = fit.predict(x[held]) if held.any() else left
    residuals = y[judge] - value
    report = FitReport(
        int((~held).sum()), int(judge.sum()), kendall_tau(y[judge], value),
        spearman_rho(y[judge], value), float(np.abs(residuals).mean()), unit,
        f"{len(y)} {given.origin}",
        "subnets" if held.any() else "subnets, each by a fit without it",
    )  # fmt: skip
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in (x, y)))
    return Learned(
        fit, conformal_quantile(residuals, LEVEL), x[~held].min(axis=0), x[~held].max(axis=0),
        report, compared(kind, y, left, given.counts), digest.hexdigest()[:16],
    )  # fmt: skip


def _held_out(ids: Sequence[str]) -> NDArray[np.bool_]:
    """A quarter, or as many as an interval needs; none where that is more than a third."""
    least = fewest_residuals(LEVEL)
    if len(ids) < 3 * least:
        return np.zeros(len(ids), dtype=np.bool_)
    return hold_out(ids, _HELD_OUT, at_least=least)
