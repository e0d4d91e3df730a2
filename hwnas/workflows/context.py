"""What cost models may ask for, loaded when they first ask."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from hwnas.cost import CostContext, SupernetLike
from hwnas.device import DeviceProfile
from hwnas.errors import DataError
from hwnas.registry.loading import import_attribute
from hwnas.space import SearchSpace

__all__ = ["make_context", "search_pairs"]


def make_context(
    space: SearchSpace,
    *,
    device: DeviceProfile | None = None,
    supernet: str | None = None,
    data: str | None = None,
    seed: int = 0,
) -> CostContext:
    """Bundle the space with what the user gave; weights and images load on demand.

    Args:
        space: the space that is searched.
        device: profile for latency and energy.
        supernet: file of a trained supernet; by default the one that ships under the space's name.
        data: folder of images and masks, the embedded picture by default. Where the folder has
            a split.csv, its `val` rows are used, so that a search never sees the test split;
            without such rows everything but `test`.
        seed: for models that draw random numbers.
    """
    return CostContext(
        space=space,
        device=device,
        supernet=_supernet(space, supernet),
        data=partial(_images, data),
        seed=seed,
        supernet_source=supernet,
        data_source=data,
    )


def _supernet(space: SearchSpace, source: str | None) -> Callable[[], SupernetLike] | None:
    target = space.supernet
    if target is None:
        return None
    return partial(_build_supernet, target, source or space.name)


def _build_supernet(target: str, source: str) -> SupernetLike:
    builder = cast(Callable[[str], Any], import_attribute(target, "supernet"))
    return cast(SupernetLike, builder(source))


def _images(folder: str | None) -> Any:
    if folder is None:
        from hwnas.data.embedded import embedded_image

        return [embedded_image()]
    from hwnas.data.folder import read_pairs

    return read_pairs(search_pairs(folder))


def search_pairs(folder: str | Path) -> list[Any]:
    """The images of a data folder that a search may see, not read yet.

    Raises:
        DataError: the folder cannot be used, or all its images are of the test split.
    """
    from hwnas.data.folder import find_pairs

    pairs = find_pairs(folder)
    validation = [pair for pair in pairs if pair.split == "val"]
    allowed = validation or [pair for pair in pairs if pair.split != "test"]
    if not allowed:
        raise DataError(
            f"{folder}: all {len(pairs)} images are of the test split, which a search must not "
            "see; mark some as val in split.csv"
        )
    return allowed
