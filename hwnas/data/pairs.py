"""One annotated image of a data folder: where its files are, and reading them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hwnas.data.classes import ClassMap
from hwnas.data.coco import CocoImage, paint
from hwnas.data.image_files import read_image, read_marks
from hwnas.data.labeled import IGNORED, LabeledImage
from hwnas.errors import DataError

__all__ = ["Marks", "Pair", "read_pair", "read_pairs", "shown"]

Marks = Literal["instances", "masks", "labels", "coco"]
_MAX_SHOWN = 40  # problems printed; a folder of another layout has one for every file


@dataclass(frozen=True, slots=True)
class Pair:
    """An image file and what marks its objects; no pixel is read yet.

    `mask` is a file of object ids (`marks` = instances), of foreground whose connected parts are
    the objects (masks), or of classes (labels, their connected parts are the objects); or the JSON
    that `coco` was read from. `labels` are classes beside object ids. `class_map` says what the
    values of labels mean. `empty` allows an image without objects.
    """

    name: str
    image: Path
    mask: Path
    marks: Marks
    kind: str = ""
    split: str = ""
    labels: Path | None = None
    class_map: ClassMap | None = None
    coco: CocoImage | None = None
    empty: bool = False


def read_pair(pair: Pair) -> LabeledImage:
    """Read one pair.

    Raises:
        DataError: an unreadable file, an image below 8 pixels, unequal sizes, unknown classes, or
            no object where `empty` does not allow it.
    """
    rgb = read_image(pair.image)
    height, width = rgb.shape[:2]
    labels: NDArray[np.uint8] | None = None
    if pair.coco is not None:
        ids, labels = paint(pair.coco, height, width)
        classes = pair.coco.classes
    else:
        classes = pair.class_map.names if pair.class_map else ("object",)
        marks = _read_marks(pair.mask, pair, rgb)
        if pair.class_map is not None:
            file = pair.labels or pair.mask
            values = _read_marks(file, pair, rgb) if pair.labels else marks
            labels = _labels(file, pair.class_map, values)
        ids = _ids(marks, labels, pair.marks)
    if not pair.empty and not ids.any():
        raise DataError(
            f"{pair.mask}: no object (all pixels are background); remove the pair, mark one, or "
            "allow empty masks with --allow-empty"
        )
    return LabeledImage(pair.name, rgb, ids, pair.kind, labels, classes)


def read_pairs(pairs: Sequence[Pair]) -> list[LabeledImage]:
    """Read all pairs.

    Raises:
        DataError: names every file that cannot be used; or there is no pair.
    """
    read: list[LabeledImage] = []
    problems: list[str] = []
    for pair in pairs:
        try:
            read.append(read_pair(pair))
        except DataError as error:
            problems.append(f"  {error}")
    if problems:
        raise DataError(f"{len(problems)} of {len(pairs)} pairs cannot be used\n" + shown(problems))
    if not read:
        raise DataError(
            "no pairs to read; expected at least one image with a mask, "
            "check the folder and the split"
        )
    return read


def shown(problems: list[str]) -> str:
    """The first 40 problems, a line each, and how many more there are."""
    rest = len(problems) - _MAX_SHOWN
    return "\n".join(problems[:_MAX_SHOWN] + ([f"  … and {rest} more"] if rest > 0 else []))


def _read_marks(path: Path, pair: Pair, rgb: NDArray[np.uint8]) -> NDArray[np.int64]:
    marks = read_marks(path, binary=pair.marks == "masks")
    if marks.shape != rgb.shape[:2]:
        raise DataError(
            f"{path}: {marks.shape[1]}x{marks.shape[0]} pixels, its image {pair.image.name} "
            f"has {rgb.shape[1]}x{rgb.shape[0]}; make the sizes equal"
        )
    return marks


def _labels(path: Path, class_map: ClassMap, marks: NDArray[np.int64]) -> NDArray[np.uint8]:
    try:
        return class_map.labels(marks)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _ids(
    marks: NDArray[np.int64], labels: NDArray[np.uint8] | None, kind: Marks
) -> NDArray[np.int32]:
    if kind == "instances":
        return marks.astype(np.int32)
    from scipy import ndimage

    if kind == "masks" or labels is None:
        return np.asarray(ndimage.label(marks)[0], dtype=np.int32)
    ids = np.zeros(labels.shape, dtype=np.int32)
    for label in np.unique(labels[(labels > 0) & (labels != IGNORED)]):
        parts, _ = ndimage.label(labels == label)
        ids[parts > 0] = parts[parts > 0] + ids.max()
    return ids
