"""From an arch to its workload, whichever way its space lowers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.errors import SpaceError
from hwnas.workload.layers import LayerSpec, Workload

if TYPE_CHECKING:
    from hwnas.space import Arch, SearchSpace


def lower(space: SearchSpace, arch: Arch) -> Workload:
    """Return the workload of an arch; a space may give one, or its layers alone.

    Raises:
        SpaceError: the space cannot lower, or gives something that is not layers.
    """
    lowered = space.lower(arch)
    if isinstance(lowered, Workload):
        return lowered
    layers = tuple(lowered) if isinstance(lowered, tuple | list) else (lowered,)
    wrong = next((layer for layer in layers if not isinstance(layer, LayerSpec)), None)
    if wrong is not None:
        raise SpaceError(
            f"space {space.name}: lower gave {type(wrong).__name__} for arch {arch.id}; expected "
            "a Workload or a tuple of LayerSpec (see hwnas.workload)"
        )
    return Workload(layers)
