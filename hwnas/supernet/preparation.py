"""From a base checkpoint and images to a supernet: sorted, with scales for every bit-width."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from hwnas.data.folder import LabeledImage
from hwnas.data.transforms import preprocess
from hwnas.quant.bits import ATTENTION_BITS, BITS
from hwnas.supernet.checkpoint import load_sam
from hwnas.supernet.encoder_order import sort_encoder
from hwnas.supernet.importance import measure_importance
from hwnas.supernet.range_calibration import calibrate_ranges
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.supernet_file import write_supernet_file

__all__ = ["write_prepared"]

_LOG = logging.getLogger(__name__)


def write_prepared(
    base: str | Path,
    images: Sequence[LabeledImage],
    out: str | Path,
    *,
    with_base: bool,
    notes: dict[str, object],
    seed: int,
) -> Path:
    """Prepare the model `base` on `images` and write its supernet file.

    Each image is seen at one resolution of the geometry, in turn. `notes` are kept in the file,
    beside the names of the images, the seed and the bit-widths.
    """
    sam = load_sam(base)
    weights = {name: value.detach().clone() for name, value in sam.state_dict().items()}
    sides = sam.geometry.resolutions
    inputs = [preprocess(image.image, sides[i % len(sides)]) for i, image in enumerate(images)]
    supernet = SamSupernet(sam)
    order = measure_importance(supernet.encoder, inputs)
    _LOG.info("importance of blocks: %s", [round(float(x), 4) for x in order.blocks])
    sort_encoder(sam.image_encoder, order, sam.geometry)
    supernet.encoder.forget()
    scales = calibrate_ranges(supernet.encoder, inputs, rng=torch.Generator().manual_seed(seed))
    made = {"images": [image.name for image in images], "seed": seed,
            "bits": BITS, "attn_bits": ATTENTION_BITS}  # fmt: skip
    return write_supernet_file(
        out, geometry=sam.geometry, order=order, scales=scales, base_weights=weights,
        with_base=with_base, notes={**notes, **made},
    )  # fmt: skip
