"""A tiny SAM space with a supernet of random weights and annotated pictures, for probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hwnas.cost import CostContext
from hwnas.data.labeled import LabeledImage
from hwnas.space import Arch, SearchSpace
from hwnas.supernet.sam_supernet import SamSupernet
from search_spaces.sam import sam_space
from tests.supernet.elastic_models import TINY, random_sam


def tiny_space() -> SearchSpace:
    return sam_space(TINY)


def tiny_arch(space: SearchSpace, resolution: int = 64, **genes: Any) -> Arch:
    """The largest arch at a resolution, with some genes changed."""
    return space.arch({**space.largest().genes, "resolution": resolution, **genes})


def picture(seed: int, height: int = 90, width: int = 120) -> LabeledImage:
    """Noise with five bright rectangles, which are its objects."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((height, width), dtype=np.int32)
    for i in range(5):
        y, x = int(rng.integers(0, height - 20)), 4 + 23 * i
        ids[y : y + 18, x : x + 14] = i + 1
    pixels = rng.integers(0, 120, (height, width, 3)) + 100 * (ids > 0)[..., None]
    return LabeledImage(f"picture {seed}", pixels.astype(np.uint8), ids)


def tiny_context(
    supernet: Any = None, images: Sequence[LabeledImage] | None = None, seed: int = 0
) -> CostContext:
    own = SamSupernet(random_sam()) if supernet is None else supernet
    found = [picture(i) for i in range(8)] if images is None else images
    return CostContext(tiny_space(), supernet=lambda: own, data=lambda: found, seed=seed)
