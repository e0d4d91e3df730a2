"""Stitch networks of random blocks, run them, and compare the order of every score with theirs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hwnas.blocks.comparing import BlockScores, compare_scores
from hwnas.blocks.library import Library, read_library, replaced_key
from hwnas.blocks.stitching import build as build_stitched
from hwnas.blocks.trial import Trial
from hwnas.errors import ConfigError, CostError
from hwnas.workflows.evaluate.data import open_data
from hwnas.workflows.study_log import StudyLog
from hwnas.workflows.watch import Silent, Watch

__all__ = ["BlockScores", "score_library"]

_MOST_TRIES = 1000  # to draw a network that is new
_TUNING_IMAGES = 64


def score_library(  # noqa: PLR0913 - one keyword for each option of the command
    library: Path,
    *,
    data: str | Path | None = None,
    networks: int = 20,
    replace: bool = False,
    iou: bool = False,
    tune: int = 0,
    max_images: int = 16,
    split: str = "val",
    seed: int = 0,
    watch: Watch | None = None,
) -> BlockScores:
    """Run networks of random blocks and compare every score with what they do.

    What was run before is kept in the library and counts; only what is missing is run.

    Args:
        library: folder of a library, with weights.
        data: folder of annotated images; needed where anything is missing.
        networks: how many random networks there should be.
        replace: also measure the teacher with each block alone in it, for `replace1`.
        iou: also measure the IoU of the networks, under box prompts.
        tune: train each network as a whole for so many steps before it is run, on training images.
        max_images: images that networks are run on.
        split: which images.
        seed: of draws of networks and images.
        watch: told about the progress.

    Raises:
        HwnasError: the library or the data cannot be used.
    """
    _check(networks, tune, max_images)
    held, watch = read_library(library), watch or Silent()
    trial = f"{max_images} images of {split}, seed {seed}" + (f", {tune} steps" if tune else "")
    wanted = _drawn(held, networks, seed)
    known = {record.blocks: record for record in held.networks_of(trial)}
    missing = [b for b in wanted if b not in known or (iou and known[b].iou is None)]
    alone = [key for key in held.blocks if key not in held.replaced] if replace else []
    if missing or alone:
        if data is None:
            raise ConfigError(
                f"{len(missing)} networks and {len(alone)} replacements are to be run: name "
                "annotated images with --data"
            )
        images = open_data(data, split=split, max_images=max_images, seed=seed).images
        training = open_data(data, split="train", max_images=_TUNING_IMAGES, seed=seed).images
        run = Trial.of(
            trial, build_stitched(library), images, iou=iou, training=training, steps=tune,
            seed=seed,
        )  # fmt: skip
        with StudyLog(library, held.settings, resume=True) as log:
            if missing:
                _run_networks(run, missing, log, watch)
            if alone:
                _run_replaced(run, alone, log, watch)
    return compare_scores(read_library(library), trial)


def _check(networks: int, tune: int, max_images: int) -> None:
    if networks < 3 or tune < 0 or max_images < 1:
        raise ConfigError(
            f"--networks {networks}, --tune {tune}, --max-images {max_images}: expected 3, 0 and 1 "
            "or more"
        )


def _run_networks(
    trial: Trial, networks: Sequence[tuple[str, ...]], log: StudyLog, watch: Watch
) -> None:
    watch.begin("running stitched networks", len(networks))
    for number, blocks in enumerate(networks, start=1):
        record = trial.network(blocks)
        log.add(record.key, record.to_dict())
        watch.advance(number, nsr=record.nsr)


def _run_replaced(
    trial: Trial, keys: Sequence[tuple[int, str]], log: StudyLog, watch: Watch
) -> None:
    watch.begin("replacing single blocks", len(keys))
    for number, (slot, block, nsr) in enumerate(trial.replaced(keys), start=1):
        log.add(replaced_key(slot, block), {"slot": slot, "block": block, "nsr": nsr})
        watch.advance(number, nsr=nsr)


def _drawn(library: Library, number: int, seed: int) -> list[tuple[str, ...]]:
    """Networks of one random block a slot, each once."""
    rng = np.random.default_rng(seed)
    names = [[record.block for record in library.of_slot(s)] for s in range(library.slots)]
    if not all(names):
        raise CostError(f"{library.path}: a slot has no block yet; go on with `hwnas blocks build`")
    found: dict[tuple[str, ...], None] = {}
    for _ in range(number + _MOST_TRIES):
        if len(found) == number:
            break
        found[tuple(names[s][int(rng.integers(len(names[s])))] for s in range(len(names)))] = None
    return list(found)
