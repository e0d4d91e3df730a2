"""A folder of images with masks, checked as a whole before anything runs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from hwnas.errors import DataError

__all__ = ["LabeledImage", "Pair", "find_pairs", "read_pair", "read_pairs"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True, slots=True)
class Pair:
    """An image file and the file that marks its objects; nothing is read yet.

    `separate` says that the mask is binary and its connected parts are the objects; else its
    pixel values are object ids.
    """

    name: str
    image: Path
    mask: Path
    separate: bool
    kind: str = ""
    split: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class LabeledImage:
    """An image (H, W, 3) uint8 and the ids of its objects (H, W) int32, 0 for background."""

    name: str
    image: NDArray[np.uint8]
    instances: NDArray[np.int32]
    kind: str = ""


def find_pairs(folder: str | Path, *, split: str | None = None) -> list[Pair]:
    """List the pairs of a data folder, sorted by name.

    The folder holds `images/` and, with the same file stems, `instances/` (pixel value = object
    id) or `masks/` (non-zero = foreground, connected parts are objects). An optional `split.csv`
    has the columns name, file and split, and may have kind; `split` picks its rows.

    Raises DataError with all problems: missing folders, images without mask, masks without image.
    """
    folder = Path(folder)
    marks = next((folder / n for n in ("instances", "masks") if (folder / n).is_dir()), None)
    if not (folder / "images").is_dir() or marks is None:
        raise DataError(
            f"{folder}: expected the folders images/ and instances/ (object ids) or masks/ "
            "(binary) in it; put images and masks of the same stem there"
        )
    images, masks = _by_stem(folder / "images"), _by_stem(marks)
    problems = [
        f"  {path.name}: no mask in {marks.name}/"
        for stem, path in images.items()
        if stem not in masks
    ]
    problems += [
        f"  {marks.name}/{path.name}: no image in images/"
        for stem, path in masks.items()
        if stem not in images
    ]
    if not images:
        problems.append(f"  images/: no files ending in {', '.join(SUFFIXES)}")
    rows = _split_rows(folder / "split.csv", images, split, problems)
    if problems:
        raise DataError(
            f"{folder}: {len(problems)} problems\n"
            + "\n".join(problems)
            + "\ngive every image a mask of the same stem"
        )
    return [
        Pair(
            stem,
            images[stem],
            masks[stem],
            marks.name == "masks",
            rows.get(stem, {}).get("kind") or "",
            rows.get(stem, {}).get("split") or "",
        )
        for stem in sorted(images)
        if split is None or rows[stem]["split"] == split
    ]


def read_pair(pair: Pair) -> LabeledImage:
    """Read one pair; raises DataError for an unreadable file, unequal sizes or an empty mask."""
    image = _read(pair.image)
    marks = _read(pair.mask)
    rgb = _to_rgb(image)
    if marks.ndim != 2:
        raise DataError(f"{pair.mask}: {marks.shape} is a color image; expected one channel")
    if marks.shape != rgb.shape[:2]:
        raise DataError(
            f"{pair.mask}: {marks.shape[1]}x{marks.shape[0]} pixels, its image {pair.image.name} "
            f"has {rgb.shape[1]}x{rgb.shape[0]}; make the sizes equal"
        )
    if not marks.any():
        raise DataError(f"{pair.mask}: no object (all pixels are 0); remove the pair or mark one")
    return LabeledImage(pair.name, rgb, _ids(marks, pair.separate), pair.kind)


def read_pairs(pairs: Sequence[Pair]) -> list[LabeledImage]:
    """Read all pairs; one DataError names every file that cannot be used."""
    read: list[LabeledImage] = []
    problems: list[str] = []
    for pair in pairs:
        try:
            read.append(read_pair(pair))
        except DataError as error:
            problems.append(f"  {error}")
    if problems:
        raise DataError(
            f"{len(problems)} of {len(pairs)} pairs cannot be used\n" + "\n".join(problems)
        )
    if not read:
        raise DataError(
            "no pairs to read; expected at least one image with a mask, "
            "check the folder and the split"
        )
    return read


def _by_stem(folder: Path) -> dict[str, Path]:
    return {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES}


def _split_rows(
    path: Path, images: dict[str, Path], split: str | None, problems: list[str]
) -> dict[str, dict[str, str]]:
    if not path.is_file():
        if split is not None:
            problems.append(f"  split.csv: absent, so the split {split!r} cannot be picked")
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = {"name", "split"} - set(reader.fieldnames or ())
        if missing:
            problems.append(f"  split.csv: no column {', '.join(sorted(missing))}")
            return {}
        rows = {row["name"]: row for row in reader}
    problems += [f"  split.csv: {name} has no image" for name in rows if name not in images]
    problems += [f"  {name}: not in split.csv" for name in images if name not in rows]
    known = sorted({row["split"] for row in rows.values()})
    if split is not None and split not in known:
        problems.append(f"  split.csv: no split {split!r}; it has {', '.join(known)}")
    return rows


def _read(path: Path) -> NDArray[np.generic]:
    try:
        with Image.open(path) as file:
            if file.mode in ("P", "RGBA", "LA", "CMYK"):
                return np.asarray(file.convert("RGB"))
            return np.asarray(file)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read as an image ({error}); expected {', '.join(SUFFIXES)}"
        ) from error


def _to_rgb(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    if image.dtype == np.bool_:
        image = image.astype(np.uint8) * 255
    if image.dtype != np.uint8:  # 16-bit or float: stretch its own range to 8 bits
        low, high = float(image.min()), float(image.max())
        image = ((image.astype(np.float64) - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
    rgb = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image[..., :3]
    return np.asarray(rgb, dtype=np.uint8)


def _ids(marks: NDArray[np.generic], separate: bool) -> NDArray[np.int32]:
    if not separate:
        return marks.astype(np.int32)
    from scipy import ndimage

    labeled, _ = ndimage.label(marks)
    return np.asarray(labeled, dtype=np.int32)
