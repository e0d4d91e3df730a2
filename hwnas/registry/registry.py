"""Named plug-ins of one kind, listed without importing any of them.

A *spec* names a plug-in in one of three ways: a registered name (`roofline`), a file
(`./my_npu.py` or `./my_npu.py:NpuLatency`) or a module path (`mypkg.npu:NpuLatency`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from hwnas.errors import PluginError
from hwnas.registry.loading import import_attribute, load_file, split_file_spec

__all__ = ["Listing", "Registry", "adapters", "cost_models", "search_spaces"]

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
        self._registered: dict[str, _Entry] = {}
        # What each version of a file announced when it ran: the same content runs once a process.
        self._announced: dict[str, dict[str, _Entry]] = {}
        self._loading: tuple[Path, dict[str, _Entry]] | None = None

    def register(self, name: str) -> Callable[[T], T]:
        """Announce a class, function or object under `name`; for one-file plug-ins and notebooks.

        A class or function that is defined again (a notebook's cell, an edited file) takes the
        place of its older self.

        Raises:
            PluginError: `name` is taken by something else.
        """

        def announce(plugin: T) -> T:
            file, into = self._loading or (None, self._registered)
            entry = _Entry(plugin, file)
            taken = self._registered.get(name)
            if taken is not None and not entry.replaces(taken):
                raise PluginError(
                    f"the {self.kind} name {name!r} is taken by {taken.origin}; "
                    f"{entry.origin} needs another name"
                )
            into[name] = entry
            return plugin

        return announce

    def names(self) -> list[str]:
        """Every name that `load` accepts, sorted; imports nothing."""
        return sorted({*self._registered, *self._entry_points()})

    def listing(self) -> list[Listing]:
        """One row per plug-in, sorted by name; imports nothing."""
        own = self._registered.items()
        rows = {name: Listing(name, entry.origin, "registered") for name, entry in own}
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
        point = self._entry_points().get(spec)
        entry = self._registered.get(spec)
        if entry is not None:
            if point is not None and point.value != entry.origin:
                raise PluginError(
                    f"the {self.kind} name {spec!r} is taken twice: by {entry.origin}, registered "
                    f"here, and by {_owner(point)}; give yours another name"
                )
            return entry.plugin
        if point is None:
            raise PluginError(self._unknown(spec))
        return import_attribute(point.value, self.kind, name=spec)

    def name_of(self, plugin: object) -> str | None:
        """The name that a plug-in was registered under in this process; None for a stranger."""
        found = (name for name, entry in self._registered.items() if entry.plugin is plugin)
        return next(found, None)

    def _from_file(self, path: str, attribute: str | None) -> object:
        module, announced = self._run_file(path)
        if attribute is not None:
            if not hasattr(module, attribute):
                raise PluginError(f"{path} defines no {attribute!r}; write {path}:NAME")
            return getattr(module, attribute)
        if len(announced) != 1:
            raise PluginError(
                f"{path} must register exactly one {self.kind}, but it registers "
                f"{', '.join(sorted(announced)) or 'none'}; name the one to use as {path}:NAME"
            )
        (entry,) = announced.values()
        return entry.plugin

    def _run_file(self, path: str) -> tuple[ModuleType, dict[str, _Entry]]:
        file = Path(path).expanduser().resolve()
        self._loading = (file, {})
        try:
            module = load_file(path, self.kind)
            announced = self._announced.setdefault(module.__name__, self._loading[1])
        finally:
            self._loading = None
        for name in [name for name, entry in self._registered.items() if entry.file == file]:
            del self._registered[name]  # what another version of the file registered
        self._registered |= announced
        return module, announced

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
        hint = f"; did you mean {near[0]!r}?" if near else "."
        return (
            f"no {self.kind} is called {spec!r}{hint} Known: {', '.join(self.names()) or 'none'}. "
            f"A file is given as ./my_{self.kind.replace(' ', '_')}.py[:Name], "
            f"a module as package.module:Name"
        )


@dataclass(frozen=True, slots=True)
class _Entry:
    """A registered plug-in and, where a file registered it, that file."""

    plugin: object
    file: Path | None

    @property
    def origin(self) -> str:
        module = getattr(self.plugin, "__module__", type(self.plugin).__module__)
        name = getattr(self.plugin, "__qualname__", type(self.plugin).__name__)
        return f"{self.file or module}:{name}"

    def replaces(self, other: _Entry) -> bool:
        """Whether this is a newer version of the other, not a rival for its name."""
        if self.file is not None or self.plugin is other.plugin:
            return self.file == other.file
        return hasattr(self.plugin, "__qualname__") and self.origin == other.origin


def _owner(point: EntryPoint) -> str:
    return f"{point.dist.name if point.dist else 'unknown'} ({point.value})"


cost_models = Registry("hwnas.cost_models", "cost model")
search_spaces = Registry("hwnas.search_spaces", "search space")
adapters = Registry("hwnas.adapters", "adapter")
