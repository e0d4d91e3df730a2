"""Parts of a network whose layers depend on a few genes only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from hwnas.space.arch import Arch
from hwnas.space.layout import Layout
from hwnas.space.messages import Problems, nearest


@dataclass(frozen=True)
class Slot:
    """One part of the network, such as a block, and the genes that shape it.

    `layers` is called with the values of `genes`, in that order, and returns a tuple of layers,
    which the space passes on without looking inside. Slots with an equal `shared` key have equal
    layers for equal values, so that a table of costs is made once for all of them. Where one of the
    genes is absent, the slot has no layers.
    """

    name: str
    genes: tuple[str, ...]
    layers: Callable[..., tuple[Any, ...]]
    shared: Hashable | None = None


def checked_slots(slots: tuple[Slot, ...], layout: Layout) -> tuple[Slot, ...]:
    """Return the slots.

    Raises:
        SpaceError: a slot named twice, or a gene that the space does not have.
    """
    problems = [
        f"slot '{s.name}': no gene '{g}'{nearest(g, list(layout.column))}"
        for s in slots
        for g in s.genes
        if g not in layout.column
    ]
    times = Counter(s.name for s in slots)
    problems += [f"slot '{name}' is given {n} times" for name, n in times.items() if n > 1]
    if problems:
        raise Problems("slots", problems)
    return slots


def layers_of(slots: tuple[Slot, ...], arch: Arch) -> tuple[Any, ...]:
    """Concatenate the layers of the slots whose genes are all present."""
    layers: list[Any] = []
    for slot in slots:
        if all(g in arch.genes for g in slot.genes):
            layers += slot.layers(*(arch[g] for g in slot.genes))
    return tuple(layers)
