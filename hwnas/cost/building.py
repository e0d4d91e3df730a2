"""From the name of a cost model to an object that keeps the contract."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwnas.cost.context import CostContext
from hwnas.cost.model import CostModel
from hwnas.errors import CostError, PluginError
from hwnas.registry import cost_models

if TYPE_CHECKING:
    from hwnas.space import Arch


def build(spec: object, context: CostContext, **options: Any) -> CostModel:
    """Build a cost model from a registered name, `./file.py:Name`, `pkg.mod:Name`, or an object.

    A class or function is called with `(context, **options)`; a finished model is returned as it
    is.

    Raises:
        PluginError: the plug-in is not found, takes no such option, or breaks the contract; all
            broken promises are named.
    """
    label = spec if isinstance(spec, str) else getattr(spec, "__qualname__", repr(spec))
    plugin = cost_models.load(spec) if isinstance(spec, str) else spec
    model = plugin
    if inspect.isclass(plugin) or not hasattr(plugin, "evaluate"):
        if not callable(plugin):
            raise PluginError(
                f"cost model {label} is {plugin!r}; expected a class, a function that is called "
                "with (context, **options), or a finished model"
            )
        _check_options(plugin, label, context, options)
        model = plugin(context, **options)
    elif options:
        raise PluginError(
            f"cost model {label} is a finished object and takes no options, got "
            f"{', '.join(options)}; pass its class instead"
        )
    return _checked(model, label)


def check_values(model: CostModel, archs: Sequence[Arch], values: object) -> NDArray[np.float64]:
    """Return `values` if they are float64, of shape (n,) and finite.

    Raises:
        CostError: they are not; the message names the model and the first arch concerned.
    """
    if not isinstance(values, np.ndarray):
        raise CostError(
            f"cost model {model.name} returned {type(values).__name__}; expected a numpy array"
        )
    if values.shape != (len(archs),) or values.dtype != np.float64:
        raise CostError(
            f"cost model {model.name} returned {values.dtype} of shape {values.shape} for "
            f"{len(archs)} archs; expected float64 of shape ({len(archs)},)"
        )
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        first = int(bad[0])
        raise CostError(
            f"cost model {model.name} returned {values[first]} for arch {archs[first].id} "
            f"({bad.size} of {len(archs)} values are not finite); an arch that cannot be priced "
            "must raise CostError"
        )
    return values


def _check_options(
    plugin: Callable[..., Any], label: str, context: CostContext, options: dict[str, Any]
) -> None:
    """Bind the call first, so that a TypeError from inside the plug-in is not taken for ours."""
    try:
        signature = inspect.signature(plugin)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(context, **options)
    except TypeError as error:
        known = [n for n, p in list(signature.parameters.items())[1:] if p.kind != p.VAR_KEYWORD]
        given = "".join(f", {option}=..." for option in options)
        raise PluginError(
            f"cost model {label} cannot be called with (context{given}): {error}; "
            f"{_option_hint(options, known)}"
        ) from error


def _option_hint(options: Iterable[str], known: Sequence[str]) -> str:
    near = {o: difflib.get_close_matches(o, known, 1) for o in options if o not in known}
    hints = [f"did you mean {match[0]} for {option}?" for option, match in near.items() if match]
    return " ".join(hints) or f"its options: {', '.join(known) or 'none'}"


def _checked(model: Any, label: str) -> CostModel:
    problems = [
        f"{name} is {getattr(model, name, None)!r}, expected a non-empty text"
        for name in ("name", "unit")
        if not isinstance(getattr(model, name, None), str) or not getattr(model, name)
    ]
    if getattr(model, "direction", None) not in ("min", "max"):
        problems.append(f"direction is {getattr(model, 'direction', None)!r}, expected min or max")
    if not callable(getattr(model, "evaluate", None)):
        problems.append("evaluate(archs) is missing")
    if problems:
        raise PluginError(
            f"cost model {label} ({type(model).__module__}.{type(model).__qualname__}) breaks its "
            f"contract: {'; '.join(problems)}"
        )
    checked: CostModel = model
    return checked
