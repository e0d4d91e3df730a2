"""What may be said about training networks from scratch, and the tiles that they are given."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hwnas.data.tiles import cut_tiles
from hwnas.errors import ConfigError, DataError
from hwnas.supernet.scratch import SPAN, Recipe, TileSet, TileTask, task_of
from hwnas.workflows.evaluate.data import EvaluationData, open_data
from hwnas.workflows.study.options import hash_images
from hwnas.workload.cnn_plan import CnnGeometry

__all__ = ["Material", "ScratchOptions", "cut_material", "open_images"]

_CANDIDATES = 2  # tiles that are cut for each that is used, so that classes can be balanced


@dataclass(frozen=True, slots=True)
class ScratchOptions:
    """Settings of a study that trains networks from scratch.

    Attributes:
        archs: Networks, see `archs_from`: `random:N`, `largest`, a JSONL file, and others.
        seeds: Trainings of each network; the same weights and order of tiles for a seed.
        tiles: Tiles of the split train to learn from.
        val_tiles: Tiles of the split val to score on.
        span: Pixels of an image that a tile covers.
        split_seed: Draws the splits of the data folder, instead of those that it names.
        seed: Of `random:N`, of the tiles, and of the trainings.
        recipe: How each is trained.

    Raises:
        ConfigError: values that make no sense, all of them.
    """

    archs: str = "random:64"
    seeds: int = 1
    tiles: int = 4096
    val_tiles: int = 1024
    span: int = SPAN
    split_seed: int | None = None
    seed: int = 0
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        least = {"seeds": 1, "tiles": 2, "val_tiles": 2, "span": 8}
        wrong = [
            f"--{name.replace('_', '-')} {getattr(self, name)}: expected {low} or more"
            for name, low in least.items()
            if getattr(self, name) < low
        ]
        if wrong:
            raise ConfigError("; ".join(wrong))


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """Tiles to learn from and to score on, and what is asked of them."""

    task: TileTask
    train: TileSet
    val: TileSet


def open_images(
    data: str | Path | None, options: ScratchOptions
) -> tuple[EvaluationData, EvaluationData, dict[str, str]]:
    """The images of train and val, and their sha256; the embedded picture is both.

    Raises:
        DataError: the folder cannot be used, or knows no splits.
    """
    train, val = (
        open_data(data, split=split, split_seed=options.split_seed) for split in ("train", "val")
    )
    if data is not None and train.split == val.split:
        raise DataError(
            f"{data}: names no splits, and networks must not be scored on what they learned; draw "
            "splits with --split-seed 0, or write a split.csv"
        )
    return train, val, {"train": hash_images(train.images), "val": hash_images(val.images)}


def cut_material(
    geometry: CnnGeometry, resolution: int, train: EvaluationData, val: EvaluationData,
    options: ScratchOptions,
) -> Material:  # fmt: skip
    """Cut the tiles that every network is given; classes are made of the tiles of train.

    Raises:
        DataError: the images do not hold enough different numbers of objects.
    """
    rng = np.random.default_rng(options.seed)
    learned, scored = (
        cut_tiles(images, _CANDIDATES * n, side=resolution, span=options.span, rng=rng)
        for images, n in ((train.images, options.tiles), (val.images, options.val_tiles))
    )
    task = task_of(geometry, learned)
    return Material(
        task, task.choose(learned, options.tiles, rng), task.choose(scored, options.val_tiles, rng)
    )
