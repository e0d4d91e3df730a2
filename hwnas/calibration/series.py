"""What makes a series of timings unfit to learn from, found without any model.

A series holds the repeats (n, r) of n architectures on one device. Each finding is a sentence that
says what is wrong and what to do. Thresholds: a repeat's coefficient of variation above 10 %, and
first repeats that are systematically slower, are those of this project's specification of
measuring (drop warm-ups, refuse unsteady sets); the others are stated beside their names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hwnas.calibration.noise import label_of, repeat_cv
from hwnas.calibration.rank_metrics import kendall_tau, spearman_rho

__all__ = ["broken_repeats", "series_problems", "shrinking_problem", "unrelated_problem"]

Float = NDArray[np.float64]
_MOST_CV = 0.10
_DRIFT = 1.10  # ratio of early to late repeats that is no accident
_ANOTHER_UNIT = 20.0  # no warm-up is as slow as that
_DRIFT_SHARE = 0.8  # of the rows
_OFF_SCALE = 1.5  # a repeat column this far from the others, either way
_LEAST_AGREEMENT = 0.5  # rank correlation of one repeat column with the others
_FLAT = 1e-6
_SURE = 4.0  # standard errors
_ENOUGH = 60  # rows from which "nothing explains it" means something


def series_problems(repeats: Float, lines: Sequence[int]) -> list[str]:
    """Return what is wrong with a series, empty if nothing; `lines` (n,) are those of its file."""
    bad = np.flatnonzero(((repeats <= 0) | np.isinf(repeats)).any(axis=1))
    if bad.size:
        row = repeats[bad[0]]
        value = row[(row <= 0) | np.isinf(row)][0]
        return [
            f"{bad.size} of {len(repeats)} rows hold a time that is not positive (line "
            f"{lines[int(bad[0])]}: {value:g}); a time is positive: leave failed rows empty"
        ]
    return [*_spread(repeats), *_unsteady(repeats)]


def broken_repeats(repeats: Float) -> dict[int, str]:
    """Return columns of (n, r) that disagree with the others while those agree, with the reason.

    First or last repeats that are slower within reason are none: the whole series is unsteady then,
    and `series_problems` says so.
    """
    if repeats.shape[1] < 3 or len(repeats) < 3 or _drift(repeats):
        return {}
    found: dict[int, str] = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.where(repeats > 0, np.log(np.where(repeats > 0, repeats, 1.0)), np.nan)
    for column in range(repeats.shape[1]):
        others = _row_median(np.delete(logs, column, axis=1))
        own = logs[:, column]
        both = ~np.isnan(own) & ~np.isnan(others)
        reason = _disagreement(repeats[:, column], own[both], others[both])
        if reason:
            found[column] = reason
    # where half of the columns disagree, none of them can be told from the others
    return found if len(found) * 2 < repeats.shape[1] else {}


def _disagreement(raw: Float, own: Float, others: Float) -> str:
    if (raw <= 0).any() and (raw > 0).any():
        return f"{int((raw <= 0).sum())} times are not positive"
    if len(own) < 3:
        return ""
    apart = float(np.median(own - others))
    if abs(apart) > np.log(_OFF_SCALE):
        return f"its times are {np.exp(apart):.3g} times those of the other repeats"
    steady = float(np.median(np.abs(own - others - apart)))
    rho = spearman_rho(others, own)
    spread = float(np.std(others))
    if steady > _MOST_CV and spread > _MOST_CV and (rho is None or rho < _LEAST_AGREEMENT):
        rank = "undefined" if rho is None else f"{rho:.2f}"
        return f"its times do not follow those of the other repeats (rank correlation {rank})"
    return ""


def unrelated_problem(labels: Float, predicted: Float, noise: float | None) -> str | None:
    """Say that nothing explains a series, judged by cross-validated predictions of it.

    `noise` is the relative disagreement of repeats, None where there are none. Kendall's tau of
    unrelated lists has a standard error of sqrt(2 (2n + 5) / (9 n (n - 1))).
    """
    n = len(labels)
    spread = float(np.std(np.log(labels)))
    if n < _ENOUGH or spread < 3.0 * (noise or 0.01):
        return None
    tau = kendall_tau(labels, predicted) or 0.0
    if tau > max(0.1, 2.0 * _tau_error(n)):
        return None
    agree = "" if noise is None else f" and repeats agree within {100 * noise:.2g} %"
    return (
        f"the times spread by {100 * spread:.0f} %{agree}, yet neither size nor genes explain them "
        f"(cross-validated Kendall tau {tau:.2f} over {n} rows); the rows are probably out of "
        "order, or of other architectures"
    )


def shrinking_problem(labels: Float, size: Float, what: str) -> str | None:
    """Say that times fall where `size` (n,) grows: a throughput, or a column of something else."""
    n = len(labels)
    tau = kendall_tau(size, labels) if n >= 10 else None
    if tau is None or tau > -0.4 or tau > -_SURE * _tau_error(n):
        return None
    return (
        f"the larger {what}, the smaller the value (Kendall tau {tau:.2f} over {n} rows); "
        "expected times: is it a rate, such as images per second?"
    )


def _tau_error(n: int) -> float:
    return float(np.sqrt(2.0 * (2 * n + 5) / (9.0 * n * (n - 1))))


def _spread(repeats: Float) -> Iterator[str]:
    labels = label_of(repeats)
    if len(labels) > 1 and float(np.ptp(labels)) <= _FLAT * float(np.max(labels)):
        yield (
            f"all {len(labels)} rows have the time {labels[0]:g}; expected times that differ "
            "between architectures: is it a placeholder, or a time-out?"
        )


def _unsteady(repeats: Float) -> Iterator[str]:
    if repeats.shape[1] < 2:
        return
    drift = _drift(repeats)
    if drift:
        yield drift
        return
    cv = float(np.nanmedian(repeat_cv(repeats)))
    if cv > _MOST_CV:
        yield (
            f"repeats of one architecture vary by {100 * cv:.0f} % (median coefficient of "
            f"variation, outliers dropped); expected at most {100 * _MOST_CV:.0f} %: fix the "
            "clock, stop other load, or take more repeats and give their medians"
        )


def _drift(repeats: Float) -> str | None:
    """Slower at the start: no warm-up. Slower at the end: it heats up, or something else runs."""
    count = repeats.shape[1]
    if count < 3:
        return None
    third = max(1, count // 3)
    late = _row_median(repeats[:, -third:])
    for first in range(third, 0, -1):
        rest = _row_median(repeats[:, first:])
        if _mostly(repeats[:, first - 1] / rest):
            names = "first repeat is" if first == 1 else f"first {first} repeats are"
            return (
                f"the {names} systematically slower than the others; expected warmed-up timings: "
                "run more warm-ups, or leave those columns out with --time-columns"
            )
    if _mostly(late / _row_median(repeats[:, :third])):
        return (
            "the last repeats are systematically slower than the first; expected a steady state: "
            "the device probably heats up, so fix its clock or cool it"
        )
    return None


def _mostly(ratio: Float) -> bool:
    known = ratio[np.isfinite(ratio)]
    if not known.size or (known > 1.0).mean() < _DRIFT_SHARE:
        return False
    return bool(_DRIFT < np.median(known) < _ANOTHER_UNIT)


def _row_median(values: Float) -> Float:
    """Median over columns without NaN; NaN where a row has nothing else."""
    out = np.full(len(values), np.nan)
    some = (~np.isnan(values)).any(axis=1)
    out[some] = np.nanmedian(values[some], axis=1)
    return out
