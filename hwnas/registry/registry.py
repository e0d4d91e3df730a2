"""Named plug-ins of one kind, listed without importing any of them.

A *spec* names a plug-in in one of three ways: a registered name (`roofline`), a file
(`./my_npu.py` or `./my_npu.py:NpuLatency`) or a module path (`mypkg.npu:NpuLatency`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from hwnas.errors import PluginError
from hwnas.registry.loading import import_attribute, load_file, split_file_spec

__all__ = ["Listing", "Registry", "cost_models", "search_spaces"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listing:
    """One row of a plug-in list: its name, where it lives, and the distribution that brings it."""

    name: str
    target: str
    distribution: str


class Registry:
    """Plug-ins of one kind, found through an entry-point group and through `register`."""

    def __init__(self, group: str, kind: str) -> None:
        self.group = group
        self.kind = kind
        self._registered: dict[str, object] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Announce a class or function under `name`; for one-file plug-ins and notebooks.

        Raises:
            PluginError: `name` is taken by another object.
        """

        def announce(plugin: T) -> T:
            taken = self._registered.get(name)
            if taken is not None and _origin(taken) != _origin(plugin):
                raise PluginError(
                    f"the {self.kind} name {name!r} is taken by {_origin(taken)}; "
                    f"{_origin(plugin)} needs another name"
                )
            self._registered[name] = plugin
            return plugin

        return announce

    def names(self) -> list[str]:
        """Every name that `load` accepts, sorted; imports nothing."""
        return sorted({*self._registered, *self._entry_points()})

    def listing(self) -> list[Listing]:
        """One row per plug-in, sorted by name; imports nothing."""
        own = self._registered.items()
        rows = {name: Listing(name, _origin(plugin), "registered") for name, plugin in own}
        for name, point in self._entry_points().items():
            rows[name] = Listing(name, point.value, point.dist.name if point.dist else "unknown")
        return [rows[name] for name in sorted(rows)]

    def load(self, spec: str) -> object:
        """Return the plug-in that `spec` names.

        Raises:
            PluginError: nothing answers to `spec`, or its code fails while loading.
        """
        file = split_file_spec(spec)
        if file is not None:
            return self._from_file(*file)
        if ":" in spec:
            return import_attribute(spec, self.kind)
        if spec in self._registered:
            return self._registered[spec]
        point = self._entry_points().get(spec)
        if point is None:
            raise PluginError(self._unknown(spec))
        return import_attribute(point.value, self.kind, name=spec)

    def _from_file(self, path: str, attribute: str | None) -> object:
        before = dict(self._registered)
        module = load_file(path, self.kind)
        if attribute is not None:
            if not hasattr(module, attribute):
                raise PluginError(f"{path} defines no {attribute!r}; write {path}:NAME")
            return getattr(module, attribute)
        added = [
            name
            for name, plugin in self._registered.items()
            if before.get(name) is not plugin
            or getattr(plugin, "__module__", None) == module.__name__
        ]
        if len(added) != 1:
            found = "none" if not added else ", ".join(sorted(added))
            raise PluginError(
                f"{path} must register exactly one {self.kind}, but it registers {found}; "
                f"name the one to use as {path}:NAME"
            )
        return self._registered[added[0]]

    def _entry_points(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=self.group):
            other = found.get(point.name)
            if other is not None and other.value != point.value:
                raise PluginError(
                    f"two packages announce the {self.kind} {point.name!r}: {_owner(other)} and "
                    f"{_owner(point)}; uninstall one, or load the other as a module path"
                )
            found[point.name] = point
        return found

    def _unknown(self, spec: str) -> str:
        near = get_close_matches(spec, self.names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return (
            f"no {self.kind} is called {spec!r}{hint} Known: {', '.join(self.names()) or 'none'}. "
            f"A file is given as ./my_{self.kind.replace(' ', '_')}.py[:Name], "
            f"a module as package.module:Name"
        )


def _origin(plugin: object) -> str:
    module = getattr(plugin, "__module__", type(plugin).__module__)
    return f"{module}:{getattr(plugin, '__qualname__', type(plugin).__name__)}"


def _owner(point: EntryPoint) -> str:
    return f"{point.dist.name if point.dist else 'unknown'} ({point.value})"


cost_models = Registry("hwnas.cost_models", "cost model")
search_spaces = Registry("hwnas.search_spaces", "search space")
