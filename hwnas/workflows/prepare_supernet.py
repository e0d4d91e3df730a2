"""Turn a base checkpoint into a supernet file: order, scales, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hwnas.data.embedded import EXCLUDED_FROM_TRAINING
from hwnas.data.folder import LabeledImage, find_pairs, read_pairs
from hwnas.errors import DataError
from hwnas.supernet.preparation import write_prepared

__all__ = ["prepare_supernet"]


def prepare_supernet(
    base: str | Path,
    *,
    data: str | Path,
    out: str | Path,
    split: str | None = "train",
    images: int = 32,
    exclude: Sequence[str] = (),
    with_base: bool = True,
    seed: int = 0,
) -> Path:
    """Sort an encoder by importance, calibrate its ranges, and write a supernet file.

    `base` is a shipped name or a checkpoint; `data` a folder of annotated images (masks are not
    used), of whose `split` the images are drawn with `seed`. Those named in `exclude` are left out,
    and so is always the image that the embedded picture was cut from. Each image is seen at one
    resolution of the geometry, in turn; every bit-width gets its scales. Without `with_base` the
    file holds order and scales only and needs the same base beside it.

    The shipped file is written by::

        prepare_supernet("sam-vit-t", data="dsb2018",
                         out="hwnas/assets/sam_vit_t_supernet.safetensors.gz", with_base=False)

    Raises:
        CheckpointError: the base cannot be loaded.
        DataError: the folder cannot be used, or no image is left after exclusion.
    """
    chosen = _choose(data, split, images, {*EXCLUDED_FROM_TRAINING, *exclude}, seed)
    return write_prepared(base, chosen, out, with_base=with_base, notes={"split": split}, seed=seed)


def _choose(
    data: str | Path, split: str | None, images: int, exclude: set[str], seed: int
) -> list[LabeledImage]:
    pairs = [pair for pair in find_pairs(data, split=split) if pair.name not in exclude]
    if not pairs or images < 1:
        raise DataError(
            f"{data}: {len(pairs)} images in split {split!r} after exclusion, {images} wanted; "
            "calibration needs at least one"
        )
    drawn = np.random.default_rng(seed).permutation(len(pairs))[:images]
    return read_pairs([pairs[i] for i in drawn])
