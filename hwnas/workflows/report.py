"""From a run folder, finished or not, to report.html and its pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from hwnas.config import SearchConfig
from hwnas.device import DeviceProfile
from hwnas.errors import ConfigError, RunError
from hwnas.records import Evaluation, RunFolder, Verification
from hwnas.records.exact import ExactStart, read_exact
from hwnas.records.verified import read_verified
from hwnas.report import (
    DeviceFigure,
    HypervolumeTrace,
    ReportData,
    ReportedCost,
    Rescoring,
    write_html,
    write_png,
)
from hwnas.report.masks import write_masks_png
from hwnas.report.selection import selected_designs
from hwnas.search import Problem, hypervolume, non_dominated, with_fitted
from hwnas.workflows.front_masks import front_masks
from hwnas.workflows.judging import fit_reports
from hwnas.workflows.mask_options import MaskOptions
from hwnas.workflows.rescoring import read_rescored
from hwnas.workflows.resolve import Resolved, resolve
from hwnas.workflows.sensitivity.kept import read_matrices

__all__ = ["report_data", "write_report", "write_run_report"]

_TRACE_POINTS = 60
_FIDELITY = {
    "analytic": "an exact count",
    "estimated": "estimated (no measurements yet)",
    "predicted": "predicted (learned from values of other designs)",
    "proxy": "a proxy (not a quality in real units)",
}


def write_report(path: Path, masks: MaskOptions | None = None) -> tuple[Path, ...]:
    """Write the report of a search or of a finished fine-tuning again; returns the files written.

    Raises:
        RunError: there is no run there, or nothing in it has succeeded yet.
        HwnasError: what `masks` name for the pictures cannot be used.
    """
    if (path / "finetuned.json").is_file():
        from hwnas.workflows.finetune.report import write_finetuning_report

        return write_finetuning_report(path, masks)
    if masks is not None and masks.base is not None:
        raise ConfigError(
            f"--base {masks.base}: {path} is no finished fine-tuning; a search has its supernet "
            "in its config"
        )
    if not path.is_dir():
        raise RunError(
            f"{path}: no such folder; name one that `hwnas search` or `hwnas finetune` made"
        )
    with RunFolder.open(path) as folder:
        return write_run_report(folder, resolve(SearchConfig.model_validate(folder.config)), masks)


def write_run_report(
    folder: RunFolder, live: Resolved, masks: MaskOptions | None = None
) -> tuple[Path, ...]:
    """Write report.html and front.png of an open run folder; masks.png where masks are drawn."""
    data = report_data(folder, live)
    shown = {design.arch_id: design for design in data.front_designs}
    picked = {label: shown[arch_id] for label, arch_id in selected_designs(data).items()}
    drawn = front_masks(live, picked, masks or MaskOptions())
    html, png, pictures = (folder.path / n for n in ("report.html", "front.png", "masks.png"))
    write_html(replace(data, masks=drawn), html)
    write_png(data, png)
    if drawn is None or not drawn.rows:
        return html, png
    write_masks_png(drawn, pictures)
    return html, png, pictures


def report_data(folder: RunFolder, live: Resolved) -> ReportData:
    """Gather what a report shows."""
    evaluations = with_fitted(live.problem, folder)
    table = _Table(live.problem, evaluations)
    if not len(table.good):
        raise RunError(f"{folder.path}: no design has been evaluated yet; nothing to report")
    facts, state = folder.facts, folder.state()
    verified, exact = read_verified(folder), read_exact(folder)
    reference: dict[str, float] = state.get("reference_point", {})
    return ReportData(
        title=f"{live.space.name} on {live.device.name}" if live.device else live.space.name,
        command=folder.command,
        config=yaml.safe_dump(folder.config, sort_keys=False),
        space_name=live.space.name,
        space_size=live.space.size(),
        size_is_exact=live.space.size_is_exact,
        costs=_costs(live.problem, evaluations),
        evaluations=evaluations,
        front=tuple(evaluations[i].arch_id for i in table.front()),
        device_key=live.device.key if live.device else None,
        device_name=live.device.name if live.device else "",
        limits=live.problem.limits,
        references=_references(live, evaluations),
        baselines={**_first_designs(live, table, exact), **_exact_designs(exact)},
        hypervolume=_trace(table, reference, live.config.algorithm),
        reference_point=reference,
        genes=live.space.genes,
        rescorings=_rescorings(folder, live),
        device_figures=_weak_figures(live.device),
        seeds=facts.get("seeds", {}),
        versions=facts.get("environment", {}).get("packages", {}),
        created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        seconds=sum(e.seconds for e in evaluations),
        notes=(*_notes(live, state), *_sentences(exact, verified)),
        verified=verified,
        exact=exact,
        matrices=read_matrices(folder),
    )


class _Table:
    """The evaluations of a run as matrices, in the order of the problem's columns."""

    def __init__(self, problem: Problem, evaluations: Sequence[Evaluation]) -> None:
        self.problem = problem
        self.evaluations = evaluations
        self.good = np.array(
            [i for i, e in enumerate(evaluations) if e.status == "ok"], dtype=np.intp
        )
        ok = [evaluations[i] for i in self.good]
        values = _matrix([[e.values[n] for n in problem.names] for e in ok], problem)
        unknown = (np.nan, np.nan)
        ends = [[e.intervals.get(n, unknown) for n in problem.names] for e in ok]
        lo = _matrix([[end[0] for end in row] for row in ends], problem)
        hi = _matrix([[end[1] for end in row] for row in ends], problem)
        self.f = problem.minimized(values)
        self.feasible: NDArray[np.bool_] = np.asarray(
            (problem.constraints(values, lo, hi) <= 0).all(axis=1)
        )

    def front(self, among: NDArray[np.bool_] | None = None) -> list[int]:
        """Indexes of the evaluations that no feasible one (among those marked) dominates."""
        rows = np.flatnonzero(self.feasible if among is None else self.feasible & among)
        return [int(self.good[i]) for i in rows[non_dominated(self.f[rows])]]


def _matrix(rows: list[list[float]], problem: Problem) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(problem.names))


def _costs(problem: Problem, evaluations: Sequence[Evaluation]) -> tuple[ReportedCost, ...]:
    first = next(e for e in evaluations if e.status == "ok")
    return tuple(
        ReportedCost(
            name=column.name,
            unit=column.unit,
            direction=column.direction,
            fidelity=_FIDELITY.get(kind := first.fidelity.get(column.name, ""), kind),
            note=str(getattr(column.model, "note", "")),
            is_objective=column in problem.objectives,
        )
        for column in problem.columns
    )


def _references(live: Resolved, evaluations: Sequence[Evaluation]) -> dict[str, Evaluation]:
    """Reference designs that the run evaluated."""
    found = {e.arch_id: e for e in evaluations if e.status == "ok"}
    designs = live.space.reference_designs()
    return {label: found[arch.id] for label, arch in designs if arch.id in found}


def _sentences(*found: ExactStart | Verification | None) -> tuple[str, ...]:
    return tuple(sentence for one in found if one is not None for sentence in one.sentences())


def _exact_designs(exact: ExactStart | None) -> Mapping[str, Sequence[Evaluation]]:
    if exact is None:
        return {}
    designs = [Evaluation(d.arch_id, d.genes, d.values) for d in exact.designs]
    return {"exact front" if exact.budget else "exact optimum": designs}


def _first_designs(
    live: Resolved, table: _Table, exact: ExactStart | None
) -> Mapping[str, Sequence[Evaluation]]:
    """The best of the random designs that the search began with: what luck alone finds."""
    if live.config.algorithm != "nsga2":
        return {}
    named = {arch.id for _, arch in live.space.reference_designs()}
    named |= {design.arch_id for design in exact.designs} if exact is not None else set()
    first = table.good < live.config.population
    drawn = np.array([table.evaluations[i].arch_id not in named for i in table.good], dtype=bool)
    count = int((first & drawn).sum())
    best = [table.evaluations[i] for i in table.front(first & drawn)]
    return {f"best of {count} random designs": best} if best else {}


def _trace(
    table: _Table, reference: Mapping[str, float], label: str
) -> tuple[HypervolumeTrace, ...]:
    point = _minimized_point(table, reference)
    if point is None:
        return ()
    counts = np.unique(np.linspace(1, len(table.good), _TRACE_POINTS).astype(int))
    points = []
    for count in counts:
        rows = np.flatnonzero(table.feasible[:count])
        if len(rows):
            f = table.f[rows]
            volume = hypervolume(f[non_dominated(f)], point)
            points.append((int(table.good[count - 1]) + 1, float(volume)))
    if not points:
        return ()
    evaluations, values = zip(*points, strict=True)
    return (HypervolumeTrace(label=label, evaluations=evaluations, values=values),)


def _minimized_point(table: _Table, reference: Mapping[str, float]) -> NDArray[np.float64] | None:
    problem = table.problem
    if set(reference) != {objective.name for objective in problem.objectives}:
        return None
    natural = np.array([[reference[objective.name] for objective in problem.objectives]])
    minimized: NDArray[np.float64] = problem.minimized(natural)[0]
    return minimized


def _rescorings(folder: RunFolder, live: Resolved) -> tuple[Rescoring, ...]:
    found = read_rescored(folder)
    if found is None:
        return ()
    note = str(getattr(live.rescore, "note", ""))
    return (
        Rescoring(
            name=found.name,
            unit=found.unit,
            direction=found.direction,
            note=note,
            values=found.values,
        ),
    )


def _weak_figures(device: DeviceProfile | None) -> tuple[DeviceFigure, ...]:
    """Figures from memory that latency and energy rest on."""
    if device is None:
        return ()
    units = {place: unit for place, (_, unit) in device.figures().items()}
    return tuple(
        DeviceFigure(
            name=place,
            value=f"{figure.value:g} {units[place]}",
            status=figure.status,
            source=figure.source or "",
        )
        for place, figure in device.weak_figures().items()
    )


def _notes(live: Resolved, state: Mapping[str, Any]) -> tuple[str, ...]:
    notes = list(live.remarks)
    notes += [f"{name}: {report}." for name, report in fit_reports(live.problem).items()]
    if state.get("status", "finished") not in {"finished", "running"}:
        notes.append(f"The run ended as {state['status']}: {state.get('message', '')}".rstrip(": "))
    return tuple(notes)
