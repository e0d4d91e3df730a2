"""What a cost model needs from the context, known before it is built.

Two optional attributes of its class: `needs`, a tuple of `"device"`, `"supernet"`, `"data"` and
`"store"`, and `ready(context)`, a class method that says whether it can answer well with what the
user gave. A space that names alternatives (`("quality", "embedding_distortion")`) takes the first
that is ready; a default objective whose needs are not met is left out.
"""

from __future__ import annotations

from typing import Any

from hwnas.cost.context import CostContext

__all__ = ["declared_needs", "is_ready", "missing_needs"]


def declared_needs(plugin: Any) -> tuple[str, ...]:
    """Names that a cost model, or its class, says it will require; empty where it says nothing."""
    needs = getattr(plugin, "needs", ())
    return tuple(needs) if isinstance(needs, tuple | list | frozenset | set) else ()


def missing_needs(plugin: Any, context: CostContext) -> tuple[str, ...]:
    """Of the declared needs those that the user did not give; nothing is loaded."""
    return tuple(name for name in declared_needs(plugin) if getattr(context, name, None) is None)


def is_ready(plugin: Any, context: CostContext) -> bool:
    """Whether its needs are met and, where it can say so, it is ready to answer."""
    ready = getattr(plugin, "ready", None)
    return not missing_needs(plugin, context) and (ready is None or bool(ready(context)))
