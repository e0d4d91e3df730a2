"""The kits run by name: what `hwnas costs check SPEC` and `hwnas spaces check SPEC` do."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.cost import CostContext, CostModel, Fittable
from hwnas.space import Archs, SearchSpace, load_space
from hwnas.testing.cost_models import check_cost_model
from hwnas.testing.cost_trial import training_values
from hwnas.testing.promises import Promise
from hwnas.testing.search_spaces import check_search_space
from hwnas.testing.workplace import Workplace, values_elsewhere

__all__ = ["check_cost_spec", "check_space_spec"]

_MOST, _FEWEST = 12, 2
_SECONDS = 2.0  # for one pass over the architectures; the kit makes about ten
_TRAINING = 60


def check_cost_spec(
    spec: str,
    *,
    space: str,
    device: str | None = None,
    options: Mapping[str, Any] | None = None,
    n: int | None = None,
) -> list[str]:
    """Return every promise that the cost model `spec` breaks on `space`; empty if all are kept.

    Besides `check_cost_model`: built twice it gives equal values, and so it does in a fresh process
    that is told names only. A `Fittable` model is first fitted, on invented values.

    Args:
        spec: registered name, `./file.py[:Name]` or `pkg.mod:Name`.
        space: name or file of the space to try it on.
        device: name or file of a device, for models that need one.
        options: options of the model.
        n: random architectures to try; 12 by default, fewer (not below 2) for a slow model.

    Raises:
        HwnasError: the space, the device or the model does not load.
    """
    workplace = Workplace(spec, space, device, dict(options or {}))
    context = workplace.context()
    model = workplace.model(context)
    found = list(_fit(model, context))
    if found:
        return found
    try:
        found = check_cost_model(model, context, n=n or _affordable(model, context.space))
    except Exception as error:
        return [f"evaluate: raises {type(error).__name__}: {error}"]
    # What is broken in this process is not worth another one.
    return found or _AGAIN.broken((workplace, context, model))


def check_space_spec(spec: str, *, n: int = 48) -> list[str]:
    """Return every promise that the search space `spec` breaks; see `check_search_space`.

    Raises:
        HwnasError: nothing answers to `spec`, or it is no search space.
    """
    space = load_space(spec)
    if load_space(spec).to_dict() != space.to_dict():
        return ["loading: loaded twice, the space is another one"]
    return check_search_space(space, n=n)


def _affordable(model: CostModel, space: SearchSpace) -> int:
    """How many architectures can be evaluated in a few seconds; the first call may load weights."""
    pair = Archs.of(space, [space.smallest(), space.largest()])
    model.evaluate(pair[:1])
    start = time.perf_counter()
    model.evaluate(pair[1:])
    seconds = max(time.perf_counter() - start, 1e-9)
    return int(np.clip(_SECONDS / seconds, _FEWEST, _MOST))


def _fit(model: CostModel, context: CostContext) -> Iterator[str]:
    if not isinstance(model, Fittable):
        return
    archs = context.space.sample(np.random.default_rng(4), _TRAINING).unique()
    try:
        fitted = model.fit(archs, training_values(context, archs))
    except Exception as error:
        yield f"fit: raises {type(error).__name__}: {error}"
        return
    if fitted is not model:
        yield "fit: does not return the model itself"


def _same_elsewhere(built: tuple[Workplace, CostContext, CostModel]) -> Iterator[str]:
    workplace, context, model = built
    archs = context.space.sample(np.random.default_rng(5), 2)
    here = model.evaluate(archs)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) if isinstance(model, Fittable) else None
        if isinstance(model, Fittable):
            model.save(Path(name))
        elif not np.array_equal(workplace.model(context).evaluate(archs), here):
            yield "built a second time, the model gives other values"
        there = values_elsewhere(workplace, archs, fitted=folder)
    if not np.array_equal(here, there):
        yield f"another process gives {there.tolist()}, this one {here.tolist()}"


_AGAIN: Promise[tuple[Workplace, CostContext, CostModel]] = Promise(
    "same in another process", _same_elsewhere
)
