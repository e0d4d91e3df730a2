"""From declarations, links and constraints to a layout and tables, with every problem at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hwnas.errors import SpaceError
from hwnas.space.constraints import Constraint, Table, compile_tables
from hwnas.space.declarations import Declaration, Scalar
from hwnas.space.genes import flatten
from hwnas.space.layout import Layout, build_layout
from hwnas.space.links import Link, groups_of
from hwnas.space.messages import Problems
from hwnas.space.slots import Slot, checked_slots

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Assembly:
    """What a search space is made of once its parts are known to fit together."""

    layout: Layout
    tables: tuple[Table, ...]
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class Parts:
    """What a search space was declared with."""

    declarations: tuple[Declaration, ...]
    constraints: tuple[Constraint, ...] = ()
    links: tuple[Link, ...] = ()
    slots: tuple[Slot, ...] = ()


def assemble(name: str, parts: Parts, only: Mapping[str, Sequence[Scalar]]) -> Assembly:
    """Fit the parts together, with the options in `only` and no others left.

    Raises:
        SpaceError: lists what is wrong with the links, the options, the constraints and the slots;
            what is wrong with the declarations comes first and alone.
    """
    title = f"space '{name}'"
    lines: list[str] = []
    try:
        flats = flatten(parts.declarations)
        layout = build_layout(flats, tuple((c,) for c in range(len(flats))), {})
    except Problems as error:
        raise Problems(title, error.lines) from error
    groups = _tried(lambda: groups_of(flats, parts.links), layout.groups, lines)
    layout = _tried(lambda: build_layout(flats, groups, only), layout, lines)
    tables: tuple[Table, ...] = ()
    tables = _tried(lambda: compile_tables(parts.constraints, flats, layout), tables, lines)
    slots = _tried(lambda: checked_slots(parts.slots, layout), parts.slots, lines)
    if lines:
        raise Problems(title, lines)
    return Assembly(layout, tables, slots)


def _tried(step: Callable[[], _T], otherwise: _T, lines: list[str]) -> _T:
    try:
        return step()
    except SpaceError as error:
        lines += error.lines if isinstance(error, Problems) else [str(error)]
        return otherwise
