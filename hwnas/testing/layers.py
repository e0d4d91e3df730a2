"""Promises about the layers that a search space lowers its architectures to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from hwnas.errors import SpaceError
from hwnas.space import Arch, SearchSpace
from hwnas.workload import LayerSpec

__all__ = ["every_arch_lowers", "slots_sum_to_the_whole"]


def every_arch_lowers(space: SearchSpace, archs: Sequence[Arch]) -> Iterator[str]:
    """Yield what is wrong with the layers; a space without layers breaks nothing."""
    if not _has_layers(space):
        return
    for arch in archs:
        layers = _layers(space, arch)
        twice = [name for name, times in Counter(x.name for x in layers).items() if times > 1]
        if not layers:
            yield f"{arch.id} has no layers"
        if twice:
            yield f"{arch.id} has more than one layer called {', '.join(twice)}"
        if sum(layer.macs for layer in layers) <= 0:
            yield f"{arch.id} has no multiply-accumulates"
        if layers != _layers(space, arch):
            yield f"{arch.id} lowers to other layers the second time"


def slots_sum_to_the_whole(space: SearchSpace, archs: Sequence[Arch]) -> Iterator[str]:
    """Yield where slots and `lower` disagree, or slots that share a table do not agree."""
    if not space.slots:
        return
    shared: dict[object, list[tuple[object, ...]]] = {}
    for arch in archs:
        found: list[LayerSpec] = []
        for slot in space.slots:
            if any(name not in arch.genes for name in slot.genes):
                continue
            values = tuple(arch[name] for name in slot.genes)
            layers = slot.layers(*values)
            found += layers
            if slot.shared is not None:
                priced = [_priced(layer) for layer in layers]
                if shared.setdefault((slot.shared, values), priced) != priced:
                    yield f"slot {slot.name!r} has other layers than those sharing {slot.shared!r}"
        if Counter(map(_priced, found)) != Counter(map(_priced, _layers(space, arch))):
            yield f"the slots of {arch.id} do not add up to what it lowers to"


def _has_layers(space: SearchSpace) -> bool:
    try:
        space.lower(space.smallest())
    except SpaceError:
        return bool(space.slots)
    return True


def _layers(space: SearchSpace, arch: Arch) -> tuple[LayerSpec, ...]:
    lowered = space.lower(arch)
    return tuple(getattr(lowered, "layers", lowered))


def _priced(layer: LayerSpec) -> tuple[object, ...]:
    """Everything about a layer that a cost can depend on: all but its name and group."""
    fields = layer.to_dict()
    return tuple(
        tuple(value) if isinstance(value, list) else value
        for key, value in fields.items()
        if key not in {"name", "group"}
    )
