"""Fitting and judging a latency predictor, wherever its times come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, cast

import numpy as np
from numpy.typing import NDArray

from hwnas.calibration import hold_out
from hwnas.calibration.accuracy import Accuracy
from hwnas.calibration.report import CalibrationReport
from hwnas.calibration.series import shrinking_problem, unrelated_problem
from hwnas.cost import CostBatch, CostContext, FitReport, build
from hwnas.errors import DataError
from hwnas.space import Archs, SearchSpace
from hwnas.workflows.watch import Silent, Watch

__all__ = [
    "Calibrated", "Labeled", "Predictor", "check_sense", "coverage_of", "fit_and_judge",
    "fit_report_of", "half_width_of", "new_predictor",
]  # fmt: skip

Float = NDArray[np.float64]
HELD_OUT = 0.2
_CURVE = (50, 100, 200)
_LEAST_HELD = 5
_FASTEST, _SLOWEST = 1e16, 1e3  # MACs per second of anything that computes
_OFF = np.log(20.0)  # a row this far from what its genes say has another unit


class Predictor(Protocol):
    """What this workflow asks of the latency predictor besides being a cost model."""

    def fit(self, archs: Sequence[Any], values: Float) -> Self: ...

    def estimate(self, archs: Sequence[Any]) -> CostBatch: ...

    def judged(self, report: FitReport) -> Self: ...

    def cross_validated(self) -> tuple[Float, Float]: ...

    def structure(self) -> str: ...

    def tried(self) -> dict[str, float]: ...

    def baselines(self) -> Mapping[str, Callable[[Archs, Float, Archs], Float]]: ...

    def total_macs(self, archs: Sequence[Any]) -> Float | None: ...

    def save(self, folder: Path) -> None: ...


@dataclass(frozen=True, eq=False)
class Labeled:
    """Times of architectures of one device.

    Attributes:
        archs: n architectures, the same one perhaps several times.
        ms: Their times, shape (n,).
        held: Which may be held out, shape (n,): those that no model picked.
        judges: Which are held out, shape (n,), where the user says so.
        hold_out: How many of `held` are held out, where the user says so; else a fifth of all.
        noise: How well two measurements agree; None where that is not known.
        noise_source: Which were compared, or why none were.
        remarks: What the user should know.
        in_ms: Whether the unit is known, because we measured: a time far off is then a disturbed
            one, which the robust fit bears, and no reason to refuse the others.
    """

    archs: Archs
    ms: Float
    held: NDArray[np.bool_]
    noise: Accuracy | None
    noise_source: str
    remarks: tuple[str, ...] = field(default=())
    judges: NDArray[np.bool_] | None = None
    hold_out: int | None = None
    in_ms: bool = False

    def take(self, rows: NDArray[np.bool_]) -> tuple[Archs, Float]:
        """Return the marked rows."""
        return self.archs.take(rows), self.ms[rows]


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A predictor fitted on everything, and the report of its twin that did not see all."""

    predictor: Predictor
    report: CalibrationReport


def fit_and_judge(
    context: CostContext,
    labeled: Labeled,
    *,
    device: str,
    prompts: int = 1,
    watch: Watch | None = None,
) -> Calibrated:
    """Fit on a part, judge by the rest, fit on all.

    A fifth of the architectures that no model picked is held out, by the order of their sha256:
    the same ones, in whatever order they were measured. `labeled.judges` takes their place.

    Raises:
        DataError: the times cannot be latencies of these architectures; says why.
        CostError: there are too few of them.
    """
    watch = watch or Silent()
    held = _held_out(labeled)
    fitted_on = labeled.take(~held)
    judge, true = labeled.take(held)
    sizes = [n for n in _CURVE if n < len(set(fitted_on[0].ids))]
    watch.begin(f"fit {device}", 3 + len(sizes))
    whole = new_predictor(context, prompts=prompts).fit(labeled.archs, labeled.ms)
    check_sense(whole, labeled)
    watch.advance(1)
    model = new_predictor(context, prompts=prompts).fit(*fitted_on)
    batch = model.estimate(judge)
    watch.advance(2)
    baselines = {
        name: Accuracy.of(true, run(*fitted_on, judge)) for name, run in model.baselines().items()
    }
    curve = {}
    for at, n in enumerate(sizes):
        watch.advance(3 + at)
        rows = _first(fitted_on[0].ids, n)
        part = new_predictor(context, prompts=prompts)
        part.fit(fitted_on[0].take(rows), fitted_on[1][rows])
        curve[n] = Accuracy.of(true, part.estimate(judge).value)
    watch.advance(3 + len(sizes))
    report = CalibrationReport(
        device, context.space.name, whole.structure(), len(set(fitted_on[0].ids)),
        len(set(judge.ids)), Accuracy.of(true, batch.value), coverage_of(batch, true),
        batch.level or 0.9, half_width_of(batch), labeled.noise, labeled.noise_source, baselines,
        curve, whole.tried(), labeled.remarks,
    )  # fmt: skip
    return Calibrated(whole.judged(fit_report_of(report, batch, true)), report)


def new_predictor(context: CostContext, **options: object) -> Predictor:
    """Build the latency predictor, which has learned from nothing yet."""
    return cast("Predictor", build("latency_xgb", context, **options))


def _held_out(labeled: Labeled) -> NDArray[np.bool_]:
    """The rows that judge: those the user chose, else a fifth of all that may be held out."""
    if labeled.judges is not None:
        return labeled.judges
    ids = labeled.archs.ids
    free = {i for i, may in zip(ids, labeled.held, strict=True) if may}
    picked = {i for i, may in zip(ids, labeled.held, strict=True) if not may}
    free -= picked  # one that was picked later is not held out either
    if len(free) < _LEAST_HELD:
        raise DataError(
            f"{len(free)} architectures that no model picked; expected at least {_LEAST_HELD} to "
            "judge the predictor by: measure random ones (`hwnas measure --subnets`)"
        )
    share = min(0.5, HELD_OUT * len(free | picked) / len(free))
    count = _LEAST_HELD
    if labeled.hold_out is not None:
        share, count = 0.0, labeled.hold_out
        if not _LEAST_HELD <= count <= min(len(free), len(free | picked) - _LEAST_HELD):
            raise DataError(
                f"--hold-out {count}: expected {_LEAST_HELD} or more, and no more than the "
                f"{len(free)} of {len(free | picked)} architectures that no model picked"
            )
    names = sorted(free)
    marked = hold_out(names, share, at_least=count)
    chosen = {name for name, out in zip(names, marked, strict=True) if out}
    return np.array([i in chosen for i in ids], dtype=np.bool_)


def _first(ids: Sequence[str], n: int) -> NDArray[np.bool_]:
    """Mark n architectures, nested for growing n."""
    return hold_out(ids, 0.0, at_least=n)


def check_sense(model: Predictor, labeled: Labeled) -> None:
    """Refuse times that cannot be those of the architectures.

    Raises:
        DataError: with the reason.
    """
    y, predicted = model.cross_validated()
    noise = None if labeled.noise is None else labeled.noise.mape / 100.0
    macs = model.total_macs(labeled.archs)
    found = [
        _shrinking(labeled, macs),
        unrelated_problem(y, predicted, noise),
        None if macs is None else _rate_problem(macs, labeled.ms),
        None if labeled.in_ms else _unit_problem(y, predicted),
    ]
    problems = [problem for problem in found if problem]
    if problems:
        raise DataError(problems[0])


def _shrinking(labeled: Labeled, macs: Float | None) -> str | None:
    if macs is not None:
        return shrinking_problem(labeled.ms, macs, "the MACs")
    size = _size_by_genes(labeled.archs.space, labeled.archs)
    return None if size is None else shrinking_problem(labeled.ms, size, "depth, width, resolution")


def _size_by_genes(space: SearchSpace, archs: Archs) -> Float | None:
    """How large networks are by genes whose roles say so: the mean rank of their options."""
    columns = [
        c for c, gene in enumerate(space.genes)
        if gene.ordered and gene.role in ("depth", "width", "resolution") and len(gene.options) > 1
    ]  # fmt: skip
    if not columns:
        return None
    ranks = [(archs.matrix[:, c] + 1.0) / len(space.genes[c].options) for c in columns]
    out: Float = np.mean(ranks, axis=0)
    return out


def _rate_problem(macs: Float, ms: Float) -> str | None:
    rate = float(np.median(macs / ms * 1e3))
    if _SLOWEST <= rate <= _FASTEST:
        return None
    return (
        f"the times mean {rate:.2g} MACs a second, and nothing computes so "
        f"{'fast' if rate > _FASTEST else 'slowly'}; expected milliseconds: is it another unit?"
    )


def _unit_problem(y: Float, predicted: Float) -> str | None:
    apart = np.log(y / predicted)
    off = np.abs(apart - np.median(apart)) > max(_OFF, 6.0 * float(np.median(np.abs(apart))))
    if not off.any():
        return None
    factor = float(np.exp(np.abs(apart[off]).max()))
    return (
        f"{int(off.sum())} of {len(y)} times are up to {factor:.3g} times off from what similar "
        "architectures take; expected one unit in all rows: are some in seconds or microseconds?"
    )


def coverage_of(batch: CostBatch, true: Float) -> float | None:
    """Share of the true values inside their interval; None where there is no interval."""
    if batch.lo is None or batch.hi is None:
        return None
    return float(((batch.lo <= true) & (true <= batch.hi)).mean())


def half_width_of(batch: CostBatch) -> float | None:
    """Half of the median interval over the value; None where there is no interval."""
    return None if batch.hi is None else float(np.median(batch.hi / batch.value - 1.0))


def fit_report_of(report: CalibrationReport, batch: CostBatch, true: Float) -> FitReport:
    """What a search shows of the predictor."""
    a = report.accuracy
    error = float(np.abs(batch.value - true).mean())
    return FitReport(
        report.fitted_on, report.held_out, a.kendall_tau, a.spearman, error, "ms",
        f"measured architectures of {report.device}", "architectures",
    )  # fmt: skip
