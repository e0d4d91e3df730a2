"""The images that an evaluation runs on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwnas.data.embedded import EMBEDDED_NAME, embedded_image
from hwnas.data.folder import find_pairs, read_pairs
from hwnas.data.labeled import LabeledImage
from hwnas.errors import ConfigError

__all__ = ["EvaluationData", "open_data"]


@dataclass(frozen=True, slots=True)
class EvaluationData:
    """Annotated images, and the name of what they were taken from."""

    split: str
    images: tuple[LabeledImage, ...]


def open_data(
    data: str | Path | None,
    *,
    split: str | None = "val",
    split_seed: int | None = None,
    max_images: int | None = None,
    seed: int = 0,
    allow_empty: bool = False,
) -> EvaluationData:
    """Read a split of a data folder; without one the embedded picture.

    A folder that knows no splits is read whole and called `all`, unless `split_seed` draws them.
    Where there are more than `max_images`, that many are drawn with `seed`.

    Raises:
        DataError: the folder or the split cannot be used; names every problem.
        ConfigError: `max_images` is below 1.
    """
    if max_images is not None and max_images < 1:
        raise ConfigError(f"--max-images {max_images}: expected 1 or more")
    if data is None:
        return EvaluationData(EMBEDDED_NAME, (embedded_image(),))
    options = {"split_seed": split_seed, "allow_empty": allow_empty}
    pairs = find_pairs(data, **options)  # type: ignore[arg-type]
    named = split is not None and any(pair.split for pair in pairs)
    if named:
        pairs = find_pairs(data, split=split, **options)  # type: ignore[arg-type]
    if max_images is not None and len(pairs) > max_images:
        rows = np.random.default_rng(seed).choice(len(pairs), max_images, replace=False)
        pairs = [pairs[row] for row in sorted(rows)]
    return EvaluationData((split or "all") if named else "all", tuple(read_pairs(pairs)))
