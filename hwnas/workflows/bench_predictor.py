"""How many architectures a second the latency predictor prices, on fresh populations."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from hwnas.cost import CostContext, build, estimate
from hwnas.device import find
from hwnas.space import Archs, load_space

__all__ = ["bench_predictor"]

_FITTED_ON = 120
_NOISE = 0.02
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

    Takes the calibrated predictor of the device. A device without one gets a predictor that is
    fitted on roofline times with made-up noise, which tells its speed and nothing else; the row
    says so. Each pass has a fresh population; the tables are filled by one that is not timed.
    """
    context = CostContext(load_space(space), find(device))
    rng = np.random.default_rng(seed)
    roofline = build("roofline", context)
    model = build("latency", context)
    what = "calibrated predictor"
    if getattr(model, "fidelity", "") != "predicted":
        archs = context.space.sample(rng, _FITTED_ON).unique()
        times = roofline.evaluate(archs) * np.exp(rng.normal(0.0, _NOISE, len(archs)))
        fresh = build("latency_xgb", context)
        model = getattr(fresh, "fit")(archs, times)  # noqa: B009 - a CostModel need not be Fittable
        what = "predictor fitted on made-up times"
    structure = getattr(model, "structure")()  # noqa: B009 - as above
    populations = [context.space.sample(rng, designs) for _ in range(repeats + 1)]
    warm = populations.pop()
    runs: list[tuple[str, Callable[[Archs], object]]] = [
        (f"{what} ({structure})", model.evaluate),
        (f"{what}, with intervals", lambda archs: estimate(model, archs)),
        ("roofline", roofline.evaluate),
    ]
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


def _seconds(run: Callable[[Archs], object], archs: Archs) -> float:
    start = time.perf_counter()
    # equal rows, but an object of its own: what a model remembers of a batch does not count
    run(Archs(archs.space, archs.matrix))
    return time.perf_counter() - start
