"""From what a user calls a space to a SearchSpace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hwnas.errors import PluginError
from hwnas.registry import search_spaces
from hwnas.space.declarations import Scalar
from hwnas.space.space import SearchSpace

__all__ = ["load_space"]


def load_space(
    spec: str | SearchSpace,
    *,
    freeze: Mapping[str, Scalar] | None = None,
    restrict: Mapping[str, Sequence[Scalar]] | None = None,
) -> SearchSpace:
    """Load a space by registered name, Python file, module path or YAML file.

    Args:
        spec: the name, or a space already built.
        freeze: genes that keep one value.
        restrict: the options that are left, by gene.

    Raises:
        PluginError: nothing answers to the name, or what answers is no space.
        ConfigError: a YAML file of a space is wrong; lists every problem.
        SpaceError: a gene to freeze or restrict, or its value, is unknown.
    """
    space = spec if isinstance(spec, SearchSpace) else _load(spec)
    space = space.freeze(freeze) if freeze else space
    return space.restrict(restrict) if restrict else space


def _load(spec: str) -> SearchSpace:
    if Path(spec).suffix in {".yaml", ".yml"}:
        from hwnas.space.yaml_space import space_from_yaml

        return space_from_yaml(spec)
    plugin = search_spaces.load(spec)
    space = plugin() if callable(plugin) else plugin
    if not isinstance(space, SearchSpace):
        raise PluginError(
            f"the search space {spec!r} gives a {type(space).__name__}; expected a "
            f"hwnas.space.SearchSpace or a function without arguments that returns one"
        )
    return space
