"""`hwnas calibrate --transfer`: a predictor from few measurements and from other devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from hwnas.calibration import mean_by_name
from hwnas.calibration.accuracy import Accuracy
from hwnas.calibration.report import CalibrationReport
from hwnas.cost import CostContext, CostModel, build
from hwnas.device import find
from hwnas.errors import ConfigError, DataError, DeviceError
from hwnas.space import Archs, SearchSpace
from hwnas.workflows.calibrate.fit import (
    Calibrated,
    Float,
    Labeled,
    check_sense,
    coverage_of,
    fit_and_judge,
    fit_report_of,
    half_width_of,
    new_predictor,
)
from hwnas.workflows.watch import Silent, Watch

__all__ = ["LEAST_TAU", "calibrated_source", "learned", "split_names", "transfer"]

LEAST_TAU = 0.8
_SLOW = ("XGBoost on genes",)  # baselines that are not worth being fitted once a label
_MOST_PARTS = 20


def split_names(text: str) -> tuple[str, ...]:
    """Return the names of a list with commas, each once.

    Raises:
        ConfigError: there is none.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise ConfigError(
            f"--transfer {text!r}: expected devices to learn from, with commas between them"
        )
    return names


def calibrated_source(name: str, space: SearchSpace, *, prompts: int) -> CostModel:
    """Return the predictor of a calibrated device, or the one in a folder.

    Raises:
        ConfigError: the device is unknown or not calibrated for the space.
        CostError: the predictor does not belong to the space, or is of other prompts.
    """
    if Path(name, "model.json").is_file():
        return build("latency", CostContext(space), predictor=name, prompts=prompts)
    try:
        profile = find(name)
    except DeviceError as error:
        raise ConfigError(f"--transfer {name}: {error}") from error
    if profile.calibration(space.name) is None:
        raise ConfigError(
            f"--transfer {name}: {profile.key} has no predictor of {space.name} to learn from; "
            f"calibrate it first with `hwnas calibrate --device {profile.id} --space "
            f"{space.name}`, or name the folder of a predictor"
        )
    return build("latency", CostContext(space, profile), prompts=prompts)


def learned(
    context: CostContext,
    labeled: Labeled,
    sources: Mapping[str, CostModel],
    *,
    device: str,
    prompts: int,
    watch: Watch,
) -> Calibrated:
    """From the measurements alone, or with the help of other devices where there are any.

    Raises:
        HwnasError: as for `fit_and_judge` and `transfer`.
    """
    if sources:
        return transfer(context, labeled, sources, device=device, prompts=prompts, watch=watch)
    return fit_and_judge(context, labeled, device=device, prompts=prompts, watch=watch)


def transfer(
    context: CostContext,
    labeled: Labeled,
    sources: Mapping[str, CostModel],
    *,
    device: str,
    prompts: int = 1,
    watch: Watch | None = None,
) -> Calibrated:
    """Fit on few measurements and the predictors of other devices; judge by leaving each out.

    Args:
        context: space and, where it is known, the device.
        labeled: its measurements.
        sources: predictors of other devices for the same space, by their names.
        device: what the device is called.
        prompts: how many prompts a time includes.
        watch: told of the progress.

    Raises:
        DataError: the times make no sense, or what is left out is not put into order: Kendall's tau
            is below 0.8. The other devices say nothing of this one then.
        CostError: fewer than five architectures were measured.
    """
    watch = watch or Silent()
    watch.begin(f"transfer to {device}", 2)
    model = new_predictor(context, prompts=prompts, sources=sources)
    model.fit(labeled.archs, labeled.ms)
    check_sense(model, labeled)
    watch.advance(1)
    first, true = mean_by_name(labeled.archs.ids, labeled.ms)
    archs = labeled.archs.take(first)
    y, predicted = model.cross_validated()
    accuracy = Accuracy.of(y, predicted)
    if accuracy.kendall_tau is None or accuracy.kendall_tau < LEAST_TAU:
        raise DataError(_refusal(device, accuracy, model.tried()))
    batch = model.estimate(archs)
    baselines = {
        name: Accuracy.of(true, _left_out(run, archs, true))
        for name, run in model.baselines().items()
        if name not in _SLOW
    }
    watch.advance(2)
    remarks = (
        f"learned from {', '.join(sources)}: {model.structure()}", *labeled.remarks,
    )  # fmt: skip
    report = CalibrationReport(
        device, context.space.name, f"transfer from {', '.join(sources)}", len(y), 0, accuracy,
        coverage_of(batch, true), batch.level or 0.9, half_width_of(batch), labeled.noise,
        labeled.noise_source, baselines, {}, model.tried(), remarks,
    )  # fmt: skip
    return Calibrated(model.judged(fit_report_of(report, batch, true)), report)


def _refusal(device: str, accuracy: Accuracy, tried: Mapping[str, float]) -> str:
    tau = "undefined" if accuracy.kendall_tau is None else f"{accuracy.kendall_tau:.2f}"
    how = "; ".join(f"{name}: MAPE {mape:.3g} %" for name, mape in tried.items())
    return (
        f"transfer puts the {accuracy.n} measured architectures of {device}, each left out in "
        f"turn, into an order of Kendall tau {tau}, {accuracy.within_10pct:.0%} within 10 % "
        f"({how}); expected a tau of at least {LEAST_TAU}: the other devices say too little of "
        "this one. Measure more of it, learn from devices more like it, or, from about fifty "
        "architectures on, calibrate it without --transfer"
    )


def _left_out(
    run: Callable[[Archs, Float, Archs], Float], archs: Archs, ms: Float
) -> Sequence[float]:
    """What a baseline says of each architecture, fitted on others."""
    out = np.empty(len(ms))
    part = np.arange(len(ms)) % min(len(ms), _MOST_PARTS)
    for k in np.unique(part):
        held = part == k
        out[held] = run(archs.take(~held), ms[~held], archs.take(held))
    found: list[float] = out.tolist()
    return found
