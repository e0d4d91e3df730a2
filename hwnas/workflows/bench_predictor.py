"""How many architectures a second the latency predictor prices, on fresh populations."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import CostContext, build, estimate
from hwnas.device import find
from hwnas.space import Archs, load_space

__all__ = ["bench_predictor"]

_FITTED_ON = 240
_NOISE = 0.02
_EFFECT = 0.3
_WAVES = 12.0
Float = NDArray[np.float64]
Row = dict[str, object]


def bench_predictor(
    space: str = "sam-vit-t",
    *,
    device: str = "host",
    designs: int = 100_000,
    repeats: int = 5,
    seed: int = 0,
) -> list[Row]:
    """Designs a second: values alone, with intervals, and the roofline beside them.

    Takes the calibrated predictor of the device; a device without one gets one that is fitted on
    made-up times. Since not every predictor has boosted trees, one is fitted that has them, on
    roofline times with an effect that only trees can learn. Made-up times tell the speed and
    nothing else, and the rows say so. Each pass has a fresh population; the tables are filled by
    one that is not timed.
    """
    context = CostContext(load_space(space), find(device))
    rng = np.random.default_rng(seed)
    roofline = build("roofline", context)
    archs = context.space.sample(rng, _FITTED_ON).unique()
    times = roofline.evaluate(archs) * np.exp(rng.normal(0.0, _NOISE, len(archs)))
    # slow at some sizes and fast at others: neither a sum nor a product of options is
    wave = np.sign(np.sin(_WAVES * np.log(times)))
    boosted = _fitted(context, archs, times * np.exp(_EFFECT * wave))
    model: Any = build("latency", context)
    what = "calibrated predictor"
    if getattr(model, "fidelity", "") != "predicted":
        model, what = _fitted(context, archs, times), "predictor fitted on made-up times"
    models = {f"{what} ({model.structure()})": model}
    if "trees" in boosted.structure() and "trees" not in model.structure():
        models[f"predictor fitted on made-up times ({boosted.structure()})"] = boosted
    populations = [context.space.sample(rng, designs) for _ in range(repeats + 1)]
    warm = populations.pop()
    runs: list[tuple[str, Callable[[Archs], object]]] = []
    for name, one in models.items():
        runs += [(name, one.evaluate), ("the same with intervals", partial(estimate, one))]
    runs.append(("roofline", roofline.evaluate))
    for _, run in runs:
        run(warm)
    rows: list[Row] = []
    for name, run in runs:
        seconds = [_seconds(run, population) for population in populations]
        rows.append(
            {
                "what": name,
                "designs/s": designs / float(np.median(seconds)),
                "slowest pass": designs / max(seconds),
            }
        )
    return rows


def _fitted(context: CostContext, archs: Archs, ms: Float) -> Any:
    fresh: Any = build("latency_xgb", context)
    return fresh.fit(archs, ms)


def _seconds(run: Callable[[Archs], object], archs: Archs) -> float:
    start = time.perf_counter()
    # equal rows, but an object of its own: what a model remembers of a batch does not count
    run(Archs(archs.space, archs.matrix))
    return time.perf_counter() - start
