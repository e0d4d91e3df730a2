"""A folder of annotated images, checked as a whole before anything runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hwnas.data.classes import ClassMap, read_classes
from hwnas.data.coco import annotation_files, read_coco
from hwnas.data.image_files import SUFFIXES, by_stem, read_marks
from hwnas.data.labeled import IGNORED, LabeledImage
from hwnas.data.pairs import Marks, Pair, read_pair, read_pairs, shown
from hwnas.data.splits import FRACTIONS, Splits, read_splits
from hwnas.errors import DataError

__all__ = ["LabeledImage", "Pair", "find_pairs", "read_pair", "read_pairs"]

_LOG = logging.getLogger(__name__)


def find_pairs(
    folder: str | Path,
    *,
    split: str | None = None,
    split_seed: int | None = None,
    fractions: Sequence[float] = FRACTIONS,
    allow_empty: bool = False,
) -> list[Pair]:
    """List the images of a data folder with their marks, sorted by name.

    The folder holds `images/` and, with the same file stems, `instances/` (object ids), `masks/`
    (non-zero = foreground), or `labels/` (classes; also beside `instances/`); `classes.json` or
    `classes.txt` names the classes and makes `masks/` hold classes. Or it holds a COCO
    `annotations.json` or `instances_*.json`. `split` picks images by `split_seed` where given,
    else by `split.csv`, by `train.txt`, `val.txt`, `test.txt`, or by the names of the COCO files.
    `allow_empty` keeps images without objects.

    Raises:
        DataError: all problems: missing folders, images without mask, masks without image,
            annotations that do not fit, unknown splits.
    """
    folder = Path(folder)
    problems: list[str] = []
    pairs = _coco_pairs(folder, problems) or _mask_pairs(folder, problems)
    names = [pair.name for pair in pairs]
    splits = read_splits(folder, names, problems, seed=split_seed, fractions=fractions)
    given = {pair.name: pair.split for pair in pairs if pair.split}
    if splits is None and given:
        splits = Splits("the annotation files", given, {}, listed=False)
    listed = splits.split if splits is not None and splits.listed else None
    # images that no list names need no mask
    problems += _unmatched([pair for pair in pairs if listed is None or pair.name in listed])
    problems += _split_problems(splits, split)
    _raise(folder, problems)
    return [
        _placed(pair, splits, allow_empty)
        for pair in sorted(pairs, key=lambda pair: pair.name)
        if _wanted(pair.name, splits, split) and _has_objects(pair, allow_empty)
    ]


def _coco_pairs(folder: Path, problems: list[str]) -> list[Pair]:
    files = annotation_files(folder)
    return [
        Pair(image.name, image.file, image.source, "coco", split=image.split, coco=image)
        for image in (read_coco(folder, files, problems) if files else ())
    ]


def _mask_pairs(folder: Path, problems: list[str]) -> list[Pair]:
    if annotation_files(folder):
        return []
    kinds: tuple[Marks, ...] = ("instances", "masks", "labels")
    marks = next((name for name in kinds if (folder / name).is_dir()), None)
    if not (folder / "images").is_dir() or marks is None:
        raise DataError(
            f"{folder}: expected the folders images/ and instances/ (object ids), masks/ (binary) "
            "or labels/ (classes) in it, or a COCO annotations.json; put images and masks of the "
            "same stem there"
        )
    images, masks = by_stem(folder / "images", problems), by_stem(folder / marks, problems)
    if not images:
        problems.append(f"  images/: no files ending in {', '.join(SUFFIXES)}")
    problems += [
        f"  {marks}/{path.name}: no image in images/"
        for stem, path in masks.items()
        if stem not in images
    ]
    beside = marks == "instances" and (folder / "labels").is_dir()
    labels = by_stem(folder / "labels", problems) if beside else {}
    classes = read_classes(folder)
    kind: Marks = "labels" if marks == "masks" and classes is not None else marks
    if classes is None and (beside or kind == "labels"):
        classes = _numbered(labels if beside else masks)
    if kind == "instances" and not beside:
        classes = None
    missing = folder / marks
    pairs = [
        Pair(stem, path, masks.get(stem, missing), kind, labels=labels.get(stem, folder / "labels")
             if beside else None, class_map=classes)
        for stem, path in images.items()
    ]  # fmt: skip
    return pairs


def _numbered(files: dict[str, Path]) -> ClassMap | None:
    """Classes `class 1` to the largest value in the files; None if a file cannot be read."""
    largest = 1
    for path in files.values():
        try:
            values = read_marks(path, binary=False)
        except DataError:
            continue  # `read_pair` says what is wrong with it
        found = values[(values != IGNORED) & (values < 256)]
        largest = max(largest, int(found.max(initial=0)))
    numbers = tuple(range(1, largest + 1))
    return ClassMap(tuple(f"class {n}" for n in numbers), numbers, "labels/")


def _unmatched(pairs: Sequence[Pair]) -> list[str]:
    found = [
        f"  {pair.image.name}: no mask in {pair.mask.name}/"
        for pair in pairs
        if pair.marks != "coco" and pair.mask.is_dir()
    ]
    return found + [
        f"  {pair.image.name}: no labels in labels/"
        for pair in pairs
        if pair.labels is not None and pair.labels.is_dir()
    ]


def _split_problems(splits: Splits | None, split: str | None) -> list[str]:
    if split is None:
        return []
    if splits is None:
        return [
            f"  split.csv: absent, so the split {split!r} cannot be picked; write one, or draw "
            "splits with --split-seed"
        ]
    known = sorted(set(splits.split.values()))
    if split in known:
        return []
    return [f"  {splits.source}: no split {split!r}; it has {', '.join(known) or 'none'}"]


def _wanted(name: str, splits: Splits | None, split: str | None) -> bool:
    if splits is None:
        return True
    found = splits.split.get(name)
    return found is not None and split in (None, found)


def _has_objects(pair: Pair, allow_empty: bool) -> bool:
    """COCO lists images without objects on purpose: they are left out, and no mistake."""
    if pair.coco is None or allow_empty or any(not o.crowd for o in pair.coco.objects):
        return True
    _LOG.info("%s: no annotation; left out", pair.name)
    return False


def _placed(pair: Pair, splits: Splits | None, allow_empty: bool) -> Pair:
    split = splits.split.get(pair.name, "") if splits else ""
    kind = splits.kind.get(pair.name, "") if splits else ""
    return replace(pair, kind=kind, split=split, empty=allow_empty)


def _raise(folder: Path, problems: list[str]) -> None:
    if problems:
        count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
        raise DataError(
            f"{folder}: {count}\n{shown(problems)}\n"
            "mend them all; every image needs its marks, and every mask its image"
        )
