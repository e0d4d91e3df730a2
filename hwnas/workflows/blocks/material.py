"""The images that blocks are trained and measured on, and the teacher's passes over them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from hwnas.blocks.teacher import TeacherPass, teacher_pass
from hwnas.data.labeled import LabeledImage
from hwnas.errors import DataError
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.workflows.evaluate.data import open_data
from hwnas.workflows.watch import Watch

__all__ = ["digest_of", "read_sets", "remarks_on", "teach"]


def read_sets(
    data: str | Path, images: int, held_out: int, split_seed: int | None, seed: int
) -> tuple[tuple[LabeledImage, ...], tuple[LabeledImage, ...]]:
    """Training and held-out images of a data folder; DataError where it knows no splits."""
    sets = [
        open_data(data, split=split, split_seed=split_seed, max_images=most, seed=seed)
        for split, most in (("train", images), ("val", held_out))
    ]
    if sets[0].split == "all":
        raise DataError(
            f"{data}: no splits, and blocks are measured on images that they were not trained on; "
            "write a split.csv with train and val, or draw splits with --split-seed"
        )
    return sets[0].images, sets[1].images


def teach(
    teacher: SamSupernet,
    sets: tuple[Sequence[LabeledImage], Sequence[LabeledImage]],
    resolution: int,
    seed: int,
    watch: Watch,
) -> tuple[TeacherPass, TeacherPass]:
    """Run the teacher over both sets, with gradients over the second."""
    watch.begin("running the teacher", 2)
    training = teacher_pass(teacher, sets[0], resolution, gradients=False, seed=seed)
    _ = training.scales  # a slot whose features do not vary stops here, before any training
    watch.advance(1)
    held = teacher_pass(teacher, sets[1], resolution, gradients=True, seed=seed)
    watch.advance(2)
    return training, held


def remarks_on(images: Sequence[LabeledImage], training: TeacherPass) -> Iterator[str]:
    """Say what of the images and of the teacher's features is worth knowing."""
    plain = [image.name for image in images if image.image.min() == image.image.max()]
    if plain:
        yield f"{len(plain)} of {len(images)} training images show one color each: {plain[0]}, …"
    for slot, scale in enumerate(training.scales):
        if scale.dead:
            yield (
                f"slot {slot}: {scale.dead} of {len(scale.weights)} channels of the teacher are "
                "the same everywhere; their errors count as those of a channel with a thousandth "
                "of the mean variance"
            )


def digest_of(images: Sequence[LabeledImage]) -> str:
    """First 16 hex digits of the sha256 over the names of images."""
    return hashlib.sha256("\n".join(image.name for image in images).encode()).hexdigest()[:16]
