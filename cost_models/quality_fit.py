"""How the quality predictor learns: what is held out, two scales brought together, the interval."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from hwnas.calibration import (
    conformal_quantile,
    fewest_residuals,
    hold_out,
    kendall_tau,
    spearman_rho,
)
from hwnas.cost import FitReport
from hwnas.errors import CostError

__all__ = ["Members", "QualityFit", "Rows", "learn"]

Float = NDArray[np.float64]
LEVEL = 0.9
_HELD_OUT = 0.25
_FEWEST = 8
_FILE_WEIGHT = 0.25  # of a subnet of the file beside one that was evaluated on the user's data
_PRIOR_POINTS = 0.25  # how many labels the assumption "same spread of qualities" is worth
_LEAST_SLOPE = 0.05
_BEYOND = 2.0  # how much wider an interval is where the model extrapolates
_TINY = 1e-6


class Members(Protocol):
    """Regressions of the same labels that differ by their random draws."""

    def predict(self, x: Float) -> Float:
        """Return what each says, (members, n)."""
        ...


Train = Callable[[Float, Float, Float], Members]  # columns (n, f), labels (n,), weights (n,)


@dataclass(frozen=True, eq=False)
class Rows:
    """Labels y (n,) with columns x (n, f); `ids` say which rows are the same architecture.

    `origin` says what they are: `subnets of FILE`, `real evaluations`.
    """

    ids: tuple[str, ...]
    x: Float
    y: Float
    origin: str

    def take(self, rows: NDArray[np.bool_]) -> Rows:
        """Return the marked rows."""
        ids = tuple(i for i, wanted in zip(self.ids, rows, strict=True) if wanted)
        return Rows(ids, self.x[rows], self.y[rows], self.origin)


@dataclass(frozen=True, eq=False)
class QualityFit:
    """What was learned besides the members.

    The interval is value +- quantile x sqrt(spread^2 + floor^2), with the standard deviation over
    members as spread; no quantile, no interval. `low` and `high` (f,) bound the columns fitted on.
    """

    quantile: float | None
    floor: float
    low: Float
    high: Float
    report: FitReport
    digest: str

    def interval(self, x: Float, spread: Float) -> tuple[Float | None, NDArray[np.bool_]]:
        """Half-width (n,) or None, and where x lies outside what was fitted on."""
        beyond = np.asarray(((x < self.low - _TINY) | (x > self.high + _TINY)).any(axis=1))
        if self.quantile is None:
            return None, beyond
        half = self.quantile * _scale(spread, self.floor)
        return np.where(beyond, _BEYOND * half, half), beyond

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; every float survives to the last bit."""
        plain = {"low": self.low.tolist(), "high": self.high.tolist()}
        return {**self.__dict__, **plain, "report": asdict(self.report)}

    @classmethod
    def of(cls, content: dict[str, Any]) -> Self:
        """Read `to_dict` back."""
        arrays = {name: np.array(content[name], dtype=np.float64) for name in ("low", "high")}
        return cls(**{**content, **arrays, "report": FitReport(**content["report"])})


def mean_and_spread(members: Float) -> tuple[Float, Float]:
    """Mean and standard deviation over the first axis, summed in one order for any n."""
    mean = sum(members[1:], start=members[0].copy()) / len(members)
    squares = sum(((m - mean) ** 2 for m in members[1:]), start=(members[0] - mean) ** 2)
    return mean, np.sqrt(squares / len(members))


def learn(
    own: Rows | None, of_file: Rows | None, train: Train, *, unit: str
) -> tuple[Members, QualityFit]:
    """Fit on three quarters of the architectures, judge by the rest.

    Where the user's own labels are enough, they alone judge and set the interval; what is held out
    of them is kept from the file's rows too.

    Args:
        own: labels on the user's pictures.
        of_file: labels on other pictures.
        train: fits members.
        unit: of the labels.

    Raises:
        CostError: fewer than eight architectures.
    """
    sets = [rows for rows in (own, of_file) if rows is not None and len(rows.y)]
    different = {name for rows in sets for name in rows.ids}
    if len(different) < _FEWEST:
        raise CostError(
            f"quality: {len(different)} evaluated subnets; expected at least {_FEWEST} to learn "
            "from: evaluate more of them"
        )
    held = set().union(*(_held_out(rows) for rows in sets))
    fitted = [rows.take(np.array([i not in held for i in rows.ids])) for rows in sets]
    if len(sets) == 2:
        a, b = _scales(fitted[0], fitted[1], train)
        sets[1], fitted[1] = (replace(r, y=a + b * r.y) for r in (sets[1], fitted[1]))
    x, y = np.concatenate([r.x for r in fitted]), np.concatenate([r.y for r in fitted])
    weights = [1.0 if i == 0 else _FILE_WEIGHT for i, rows in enumerate(fitted) for _ in rows.ids]
    members = train(x, y, np.array(weights))
    judge = _judge([rows.take(np.array([i in held for i in rows.ids])) for rows in sets])
    quantile, floor = _conformal(judge, members)
    labels = " and ".join(f"{len(rows.y)} {rows.origin}" for rows in sets)
    report = _report(judge, members, len(different) - len(held), unit, labels)
    digest = hashlib.sha256(b"".join(a.tobytes() for s in sets for a in (s.x, s.y))).hexdigest()
    return members, QualityFit(quantile, floor, x.min(0), x.max(0), report, digest[:16])


def _held_out(rows: Rows) -> set[str]:
    """A quarter, or as many as an interval needs where they are no more than a third."""
    least = fewest_residuals(LEVEL)
    enough = least if len(set(rows.ids)) >= 3 * least else 0
    marked = hold_out(rows.ids, _HELD_OUT, at_least=enough)
    return {name for name, out in zip(rows.ids, marked, strict=True) if out}


def _scales(own: Rows, of_file: Rows, train: Train) -> tuple[float, float]:
    """Offset and slope from the file's scale to the user's, by least squares.

    The slope is drawn a little towards 1, which keeps it sane where the labels are few and alike.
    """
    other = train(of_file.x, of_file.y, np.ones(len(of_file.y)))
    p, _ = mean_and_spread(other.predict(own.x))
    drawn = _PRIOR_POINTS * float(of_file.y.var()) + _TINY
    together = float(((p - p.mean()) * (own.y - own.y.mean())).sum())
    slope = (together + drawn) / (float(((p - p.mean()) ** 2).sum()) + drawn)
    slope = max(slope, _LEAST_SLOPE)
    return float(own.y.mean()) - slope * float(p.mean()), slope


def _judge(held: list[Rows]) -> Rows:
    """The user's own held-out rows if an interval can be read off them, else the file's."""
    return held[0] if len(held[0].y) >= fewest_residuals(LEVEL) else held[-1]


def _conformal(judge: Rows, members: Members) -> tuple[float | None, float]:
    if not len(judge.y):
        return None, 0.0
    value, spread = mean_and_spread(members.predict(judge.x))
    floor = float(np.median(spread)) + _TINY
    return conformal_quantile((judge.y - value) / _scale(spread, floor), LEVEL), floor


def _scale(spread: Float, floor: float) -> Float:
    scale: Float = np.sqrt(spread**2 + floor**2)
    return scale


def _report(judge: Rows, members: Members, fitted: int, unit: str, labels: str) -> FitReport:
    if not len(judge.y):
        return FitReport(fitted, 0, None, None, None, unit, labels)
    value, _ = mean_and_spread(members.predict(judge.x))
    return FitReport(
        fitted,
        len(judge.y),
        kendall_tau(judge.y, value),
        spearman_rho(judge.y, value),
        float(np.abs(judge.y - value).mean()),
        unit,
        labels,
        judge.origin,
    )
