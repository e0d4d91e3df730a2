"""Kinds of adapters: found by name, and constructed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from hwnas.adapters.contract import MatrixSlice, Role, WeightAdapter
from hwnas.errors import HwnasError, PluginError
from hwnas.registry import adapters as registry

__all__ = ["construct", "resolve_kind"]


def resolve_kind(kind: str) -> tuple[Any, str]:
    """The plug-in of a kind, and its registered name, the only thing that files say of it.

    Raises:
        PluginError: nothing answers to `kind`, or it has no registered name.
    """
    plugin: Any = registry.load(kind)
    name = kind if kind in registry.names() else registry.name_of(plugin)
    if name is None:
        raise PluginError(
            f"adapter {kind} has no registered name, without which what was trained could not "
            "be read again; put @hwnas.registry.adapters.register('my_adapter') on its class"
        )
    return plugin, name


def construct(
    plugin: Any, kind: str, whole: MatrixSlice, rng: torch.Generator, options: Mapping[str, Any],
    *, roles: Sequence[Role],
) -> WeightAdapter:  # fmt: skip
    """A fresh adapter of a matrix, of one of `roles`.

    Raises:
        PluginError: it does not take the options, or is no adapter of these roles.
    """
    try:
        adapter = plugin(whole, rng=rng, **options)
    except HwnasError:
        raise
    except TypeError as error:
        raise PluginError(f"adapter {kind} cannot be made with {dict(options)}: {error}") from error
    if not isinstance(adapter, WeightAdapter) or adapter.role not in roles:
        raise PluginError(
            f"adapter {kind} gives {type(adapter).__name__}, role "
            f"{getattr(adapter, 'role', None)!r}; expected a hwnas.adapters.WeightAdapter that is "
            f"{' or '.join(roles)}"
        )
    return adapter
