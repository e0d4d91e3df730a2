"""How well scores order subnets: figures with bootstrap intervals, overall and at equal BitOPs.

Protocol: the project's specification of cost models, section 8.4. A search visits the top of a
space at a given cost, so correlations over all subnets are given beside the precision of the top,
correlations within bands of BitOPs, and what is left once size is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwnas.calibration import kendall_tau, spearman_rho
from hwnas.calibration.bootstrap import (
    draw_rows,
    each_draw,
    kendall_of_draws,
    percentile_interval,
    spearman_of_draws,
)
from hwnas.calibration.partial import partial_spearman

__all__ = ["Figure", "Judgement", "Ranked", "Trial", "bands_of", "judge"]

Float = NDArray[np.float64]
Rows = NDArray[np.intp]
_Tau: TypeAlias = tuple[float | None, Float]  # a value and its draws
LEVEL = 0.95
_PICKS = 5


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and its bootstrap interval of 95 %; None where it is not defined."""

    value: float | None
    lo: float | None = None
    hi: float | None = None

    @classmethod
    def of(cls, value: float | None, draws: Float) -> Figure:
        """A value with the percentiles of its draws."""
        found = percentile_interval(draws, LEVEL) if value is not None else None
        return cls(value, *(found or ()))

    @property
    def floor(self) -> float | None:
        """The low end, or the value where there is no interval."""
        return self.value if self.lo is None else self.lo


@dataclass(frozen=True, slots=True)
class Ranked:
    """How scores order n subnets.

    Attributes:
        n: Subnets.
        k: How many of them are the top.
        picks: How many would be evaluated to find a good one.
        kendall: Kendall's tau-b.
        spearman: Spearman's rho.
        precision: Share of the truly best k among the k that score best.
        best_rank: True rank of the best of the `picks` that score best; 1 is perfect.
        regret: By how many points (0.01 IoU) that one is below the best of all.
    """

    n: int
    k: int
    picks: int
    kendall: Figure
    spearman: Figure
    precision: Figure
    best_rank: Figure
    regret: Figure


@dataclass(frozen=True, slots=True)
class Judgement:
    """Everything that is said about one score.

    `in_bands` is the mean of Kendall's tau over the bands, `partial` Spearman's rho given log
    params and log MACs. `against` and `against_in_bands` are Kendall's tau minus that of each
    baseline, which may be turned round.
    """

    overall: Ranked
    bands: tuple[Ranked, ...]
    in_bands: Figure
    partial: Figure
    against: Mapping[str, Figure]
    against_in_bands: Mapping[str, Figure]


@dataclass(frozen=True, eq=False)
class Trial:
    """True qualities `iou` (n,), what size says `given` (n, c), and bands as rows of both."""

    iou: Float
    given: Float
    bands: tuple[Rows, ...]
    top: float
    draws: int
    seed: int


@dataclass(frozen=True, eq=False)
class _Group:
    """Subnets that are judged together, by their rows, and draws (draws, m) among them."""

    rows: Rows
    drawn: Rows


@dataclass(frozen=True, eq=False)
class _Taus:
    """Kendall's tau overall, in each band, and as the mean over bands, each with its draws."""

    overall: _Tau
    bands: tuple[_Tau, ...]
    in_bands: _Tau


def bands_of(gbitops: Float, bands: int) -> tuple[Rows, ...]:
    """Rows of the subnets from the cheapest to the dearest, in `bands` parts of equal number."""
    order = np.argsort(gbitops, kind="stable")
    return tuple(np.sort(part) for part in np.array_split(order, bands))


def judge(
    trial: Trial, scores: Mapping[str, Float], baselines: Sequence[str]
) -> dict[str, Judgement]:
    """Judge scores (n,), the better the larger; `baselines` are those of them to compare with.

    All are judged on the same draws, so that differences are paired.
    """
    whole, *bands = _groups(trial)
    taus = {name: _taus(trial, score, whole, bands) for name, score in scores.items()}
    known = {name: taus[name] for name in baselines if taus[name].overall[0] is not None}
    found = {}
    for name, score in scores.items():
        own = taus[name]
        rivals = {} if name in baselines else known
        found[name] = Judgement(
            _ranked(trial, score, whole, own.overall),
            tuple(_ranked(trial, score, *pair) for pair in zip(bands, own.bands, strict=True)),
            Figure.of(*own.in_bands),
            _partial(trial, score, whole),
            {n: _difference(own.overall, other.overall) for n, other in rivals.items()},
            {n: _difference(own.in_bands, other.in_bands) for n, other in rivals.items()},
        )
    return found


def _groups(trial: Trial) -> list[_Group]:
    everything = np.arange(len(trial.iou), dtype=np.intp)
    parts = (everything, *trial.bands)
    seeds = np.random.SeedSequence(trial.seed).spawn(len(parts))
    return [
        _Group(rows, draw_rows(len(rows), trial.draws, np.random.default_rng(seed)))
        for rows, seed in zip(parts, seeds, strict=True)
    ]


def _taus(trial: Trial, score: Float, whole: _Group, bands: Sequence[_Group]) -> _Taus:
    overall = _tau(trial, score, whole)
    within = tuple(_tau(trial, score, band) for band in bands)
    known = [(value, draws) for value, draws in within if value is not None]
    if not known:
        return _Taus(overall, within, (None, np.empty(0)))
    mean = float(np.mean([value for value, _ in known]))
    draws = np.mean([draws for _, draws in known], axis=0)
    return _Taus(overall, within, (mean, draws))


def _tau(trial: Trial, score: Float, group: _Group) -> _Tau:
    y, s = trial.iou[group.rows], score[group.rows]
    return kendall_tau(y, s), kendall_of_draws(y, s, group.drawn)


def _difference(own: _Tau, other: _Tau) -> Figure:
    """Tau minus that of a baseline in whichever direction it is better."""
    if own[0] is None or other[0] is None:
        return Figure(None)
    sign = -1.0 if other[0] < 0 else 1.0
    return Figure.of(own[0] - sign * other[0], own[1] - sign * other[1])


def _ranked(trial: Trial, score: Float, group: _Group, tau: _Tau) -> Ranked:
    y, s = trial.iou[group.rows], score[group.rows]
    k = max(1, round(trial.top * len(y)))
    picks = min(_PICKS, len(y))
    here = _top_figures(y[None], s[None], k, picks)
    drawn = _top_figures(y[group.drawn], s[group.drawn], k, picks)
    top = [Figure.of(float(value[0]), draws) for value, draws in zip(here, drawn, strict=True)]
    rho = Figure.of(spearman_rho(y, s), spearman_of_draws(y, s, group.drawn))
    return Ranked(len(y), k, picks, Figure.of(*tau), rho, *top)


def _top_figures(y: Float, score: Float, k: int, picks: int) -> tuple[Float, Float, Float]:
    """Precision, best rank and regret of each row of y and score (d, n), three arrays (d,).

    Earlier subnets win ties.
    """
    best, chosen = (np.argsort(-values, axis=1, kind="stable") for values in (y, score))
    among = np.zeros(y.shape, dtype=np.bool_)
    np.put_along_axis(among, best[:, :k], np.True_, axis=1)
    precision = np.take_along_axis(among, chosen[:, :k], axis=1).mean(axis=1)
    found = np.take_along_axis(y, chosen[:, :picks], axis=1).max(axis=1)
    rank = 1.0 + (y > found[:, None]).sum(axis=1)
    return precision, rank, 100.0 * (y.max(axis=1) - found)


def _partial(trial: Trial, score: Float, whole: _Group) -> Figure:
    if not trial.given.size:
        return Figure(None)

    def of_rows(rows: Rows) -> float | None:
        return partial_spearman(trial.iou[rows], score[rows], trial.given[rows])

    return Figure.of(of_rows(whole.rows), each_draw(of_rows, whole.drawn))
