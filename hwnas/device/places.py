"""Where device files lie, in the order in which they are looked up."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final

__all__ = ["ENTRY_POINT_GROUP", "Place", "places"]

logger = logging.getLogger(__name__)

ENTRY_POINT_GROUP: Final = "hwnas.devices"


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of device files and how messages call it; `problem` says why it has none."""

    label: str
    folder: Path | None
    problem: str | None = None

    def files(self) -> list[Path]:
        """Return the device files of the folder, sorted; none where the folder is absent."""
        if self.folder is None or not self.folder.is_dir():
            return []
        return sorted(p for p in self.folder.iterdir() if p.suffix in {".yaml", ".yml"})


def places() -> tuple[Place, ...]:
    """Return `./devices`, what installed packages announce, then the built-in folder.

    A folder that appears twice (working inside our repository, `./devices` is the built-in one) is
    kept once, in its last place.
    """
    built_in = Place("built-in", Path(__file__).resolve().parents[2] / "devices")
    announced = [_announced(point) for point in sorted(entry_points(group=ENTRY_POINT_GROUP))]
    found = (Place("./devices", Path.cwd() / "devices"), *announced, built_in)
    last = {place.folder.resolve(): place for place in found if place.folder is not None}
    return tuple(p for p in found if p.folder is None or last[p.folder.resolve()] is p)


def _announced(point: EntryPoint) -> Place:
    """Resolve `package` to its folder, or `package:name` to a path or a function returning one."""
    label = f"package {point.dist.name if point.dist else point.name} ({point.value})"
    try:
        return Place(label, _attribute_folder(point) if point.attr else _package_folder(point))
    except Exception as error:  # a broken plug-in hurts only itself
        problem = f"{label} announces devices but fails: {type(error).__name__}: {error}"
        logger.warning("%s", problem)
        return Place(label, None, problem)


def _package_folder(point: EntryPoint) -> Path:
    spec = importlib.util.find_spec(point.module)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{point.module} is not an installed package")
    return Path(next(iter(spec.submodule_search_locations)))


def _attribute_folder(point: EntryPoint) -> Path:
    target = point.load()
    folder = target() if callable(target) else target
    if not isinstance(folder, str | Path):
        raise TypeError(f"expected a path, got {type(folder).__name__}")
    return Path(folder)
