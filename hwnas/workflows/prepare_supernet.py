"""Turn a base checkpoint into a supernet file: order, scales, and where they come from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from hwnas.data.embedded import EXCLUDED_FROM_TRAINING
from hwnas.data.folder import LabeledImage, find_pairs, read_pairs
from hwnas.data.transforms import preprocess
from hwnas.errors import DataError
from hwnas.quant.bits import ATTENTION_BITS, BITS
from hwnas.supernet.checkpoint import load_sam
from hwnas.supernet.encoder_order import sort_encoder
from hwnas.supernet.importance import measure_importance
from hwnas.supernet.range_calibration import calibrate_ranges
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.supernet_file import write_supernet_file

__all__ = ["prepare_supernet"]

_LOG = logging.getLogger(__name__)


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
    and so is always the image that the embedded picture was cut from.
    Each image is seen at one resolution of the geometry, in turn; every bit-width gets its scales.
    Without `with_base` the file holds order and scales only and needs the same base beside it.

    The shipped file is written by::

        prepare_supernet("sam-vit-t", data="dsb2018",
                         out="hwnas/assets/sam_vit_t_supernet.safetensors", with_base=False)

    Raises:
        CheckpointError: the base cannot be loaded.
        DataError: the folder cannot be used, or holds fewer than one image after exclusion.
    """
    sam = load_sam(base)
    weights = {name: value.detach().clone() for name, value in sam.state_dict().items()}
    chosen = _choose(data, split, images, exclude, seed)
    sides = sam.geometry.resolutions
    inputs = [
        preprocess(item.image, sides[place % len(sides)]) for place, item in enumerate(chosen)
    ]
    supernet = SamSupernet(sam)
    order = measure_importance(supernet.encoder, inputs)
    _LOG.info("importance of blocks: %s", [round(float(x), 4) for x in order.blocks])
    sort_encoder(sam.image_encoder, order, sam.geometry)
    supernet.encoder.forget()
    rng = torch.Generator().manual_seed(seed)
    scales = calibrate_ranges(supernet.encoder, inputs, rng=rng)
    notes = {
        "images": [item.name for item in chosen],
        "split": split,
        "seed": seed,
        "bits": list(BITS),
        "attn_bits": list(ATTENTION_BITS),
    }
    return write_supernet_file(
        out, geometry=sam.geometry, order=order, scales=scales, base_weights=weights,
        with_base=with_base, notes=notes,
    )  # fmt: skip


def _choose(
    data: str | Path, split: str | None, images: int, exclude: Sequence[str], seed: int
) -> list[LabeledImage]:
    left_out = {*EXCLUDED_FROM_TRAINING, *exclude}
    pairs = [pair for pair in find_pairs(data, split=split) if pair.name not in left_out]
    if not pairs or images < 1:
        raise DataError(
            f"{data}: {len(pairs)} images in split {split!r} after exclusion, {images} wanted; "
            "calibration needs at least one"
        )
    rng = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(pairs), generator=rng)[:images].tolist()
    return read_pairs([pairs[i] for i in drawn])
