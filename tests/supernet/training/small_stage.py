"""A stage that trains a very small SAM on made-up images, also as a script to be killed or shared.

`python small_stage.py FOLDER STEPS [shard]` trains with a checkpoint after every step.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hwnas.supernet.decoder import decode
from hwnas.supernet.prompting import embed_boxes
from hwnas.supernet.sam_model import build_sam, encode
from hwnas.supernet.training.distributed import open_world
from hwnas.supernet.training.loop import run_stage
from hwnas.supernet.training.losses import mask_losses
from hwnas.supernet.training.stage import ParameterGroup, Share, Stage
from hwnas.workload.sam_geometry import GEOMETRIES

SIDE, IMAGES = 64, 4
SMALL = replace(
    GEOMETRIES["sam-vit-t"], name="small", resolutions=(32, SIDE), dim=32, depth=2, heads=2,
    window=2, global_blocks=(1,), neck_dim=32,
)  # fmt: skip


def small_stage(steps: int, **changes: Any) -> Stage:
    """Box prompts on one square an image; norms and decoder train at rates of their own.

    In float64: AdamW makes whole steps of the rounding errors of a gradient that is zero, such as
    that of a key's bias, so that in float32 two processes could not be compared with one.
    """
    torch.manual_seed(0)
    sam = build_sam(SMALL).double()
    positions = sam.prompt_encoder.pe_layer  # segment_anything computes these in float32
    positions.positional_encoding_gaussian_matrix = (
        positions.positional_encoding_gaussian_matrix.float()
    )
    named = list(sam.named_parameters())
    encoder = [(k, p) for k, p in named if k.startswith("image_encoder") and p.ndim > 1]
    vectors = [(k, p) for k, p in named if k.startswith("image_encoder") and p.ndim == 1]
    decoder = [(k, p) for k, p in named if k.startswith("mask_decoder")]

    def accumulate(rng: np.random.Generator, share: Share) -> Mapping[str, torch.Tensor]:
        losses = small_losses(sam, rng, share.rows(IMAGES))
        (losses["loss"] / 2).backward()
        other = small_losses(sam, rng, share.rows(IMAGES))
        (other["loss"] / 2).backward()
        return {"loss": (losses["loss"] + other["loss"]).detach() / 2, "dice": losses["dice"]}

    def validate() -> dict[str, float]:
        with torch.no_grad():
            losses = small_losses(sam, np.random.default_rng(7), slice(None))
        return {"val_iou": round(float(losses["iou"]), 6)}

    groups = [
        ParameterGroup("encoder", encoder, 1e-3, 0.05),
        ParameterGroup("vectors", vectors, 5e-4, 0.0, clip=False),
        ParameterGroup("decoder", decoder, 2e-3, 0.05),
    ]
    stage = Stage(
        "small", 1, sam, groups, steps, accumulate, validate, validate_every=5, log_every=2
    )
    return replace(stage, **changes)


def small_losses(sam: Any, rng: np.random.Generator, rows: slice) -> dict[str, torch.Tensor]:
    corners = torch.from_numpy(rng.integers(0, 32, (IMAGES, 2))[rows]).double()
    noise = torch.from_numpy(rng.normal(size=(IMAGES, 3, SIDE, SIDE))[rows])
    boxes = torch.cat([corners, corners + 24], dim=1)
    pixels = torch.arange(SIDE)
    inside = (pixels >= corners[..., None]) & (pixels < corners[..., None] + 24)
    truth = (inside[:, 0, None, :] & inside[:, 1, :, None]).double()  # (B, y, x)
    embedding = encode(sam, noise * 0.3 + truth[:, None])
    logits, iou = decode(sam, embedding, embed_boxes(sam, boxes[:, None], SIDE))
    return mask_losses(logits[:, 0, 0], iou[:, 0, 0], truth)


def main(folder: Path, steps: int, *, shard: bool) -> None:
    torch.set_num_threads(1)
    with open_world(shard=shard) as world:
        run_stage(small_stage(steps), folder, seed=3, world=world, save_seconds=0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), shard="shard" in sys.argv)
