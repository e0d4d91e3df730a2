"""COCO annotation files: a JSON of images, categories and objects, beside the image files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.data.classes import MAX_CLASSES
from hwnas.data.coco_masks import decode_segmentation
from hwnas.data.labeled import IGNORED
from hwnas.errors import DataError

__all__ = ["CocoImage", "CocoObject", "annotation_files", "paint", "read_coco"]


@dataclass(frozen=True, slots=True)
class CocoObject:
    """One annotation: its class 1 to C, its undecoded segmentation, and whether it is a crowd."""

    number: int
    label: int
    segmentation: Any
    crowd: bool


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One image of an annotation file with its objects; `split` is what the file's name says."""

    name: str
    file: Path
    source: Path
    split: str
    classes: tuple[str, ...]
    objects: tuple[CocoObject, ...]


def annotation_files(folder: Path) -> list[Path]:
    """`annotations.json` or `instances_*.json` in a folder or in its `annotations/`, sorted."""
    if (folder / "annotations.json").is_file():
        return [folder / "annotations.json"]
    places = (folder, folder / "annotations")
    return [path for place in places for path in sorted(place.glob("instances_*.json"))]


def read_coco(folder: Path, files: Sequence[Path], problems: list[str]) -> list[CocoImage]:
    """All images of the annotation files; what does not fit is added to `problems`.

    The split of `instances_val2017.json` is val, likewise train and test. Image files are looked
    for in `images/`, in a folder of the split's name (`val2017/`), and in `folder` itself.
    """
    found: list[CocoImage] = []
    classes: dict[int, str] = {}
    parsed = [(path, _parse(path, problems)) for path in files]
    for path, content in parsed:
        for category in content.get("categories", ()):
            number, name = int(category["id"]), str(category["name"])
            if classes.setdefault(number, name) != name:
                problems.append(
                    f"  {path.name}: category {number} is {name!r}, elsewhere {classes[number]!r}"
                )
    if len(classes) > MAX_CLASSES:
        problems.append(f"  {len(classes)} categories; at most {MAX_CLASSES}")
    labels = {number: i for i, number in enumerate(sorted(classes), start=1)}
    names = tuple(classes[number] for number in sorted(classes))
    for path, content in parsed:
        found += _images(folder, path, content, (labels, names), problems)
    twice = {image.name for image in found if sum(o.name == image.name for o in found) > 1} if (
        len({image.name for image in found}) < len(found)
    ) else set()  # fmt: skip
    problems += [f"  {name}: in the annotation files twice" for name in sorted(twice)]
    return found


def paint(image: CocoImage, height: int, width: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Object ids (H, W) from 1 on and class labels (H, W) of an image.

    Where objects overlap the one of fewer pixels lies on top. Crowds are no objects: their pixels
    are ignored unless an object covers them. An object that holds no pixel's center has no id.

    Raises:
        DataError: an annotation cannot be decoded; lists all of the image.
    """
    masks, problems = [], []
    for entry in image.objects:
        try:
            masks.append((entry, decode_segmentation(entry.segmentation, height, width)))
        except DataError as error:
            problems.append(f"annotation {entry.number}: {error}")
    if problems:
        raise DataError(f"{image.source}, {image.file.name}: " + "; ".join(problems))
    ids = np.zeros((height, width), dtype=np.int32)
    labels = np.zeros((height, width), dtype=np.uint8)
    for entry, mask in masks:
        if entry.crowd:
            labels[mask] = IGNORED
    solid = [pair for pair in masks if not pair[0].crowd]
    solid.sort(key=lambda pair: -int(pair[1].sum()))
    for number, (entry, mask) in enumerate(solid, start=1):
        ids[mask], labels[mask] = number, entry.label
    return ids, labels


def _parse(path: Path, problems: list[str]) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problems.append(f"  {path.name}: not JSON ({error})")
        return {}
    missing = [k for k in ("images", "annotations", "categories") if not _is_list(content, k)]
    if missing:
        problems.append(
            f"  {path.name}: no list {', '.join(missing)}; expected COCO's images, annotations "
            "and categories"
        )
        return {}
    return dict(content)


def _is_list(content: object, key: str) -> bool:
    return isinstance(content, dict) and isinstance(content.get(key), list)


def _images(
    folder: Path,
    path: Path,
    content: Mapping[str, Any],
    classes: tuple[Mapping[int, int], tuple[str, ...]],
    problems: list[str],
) -> list[CocoImage]:
    labels, names = classes
    known = {entry.get("id"): entry for entry in content.get("images", ())}
    objects: dict[Any, list[CocoObject]] = {number: [] for number in known}
    for entry in content.get("annotations", ()):
        number = entry.get("id")
        image, category = entry.get("image_id"), entry.get("category_id")
        if image not in known:
            problems.append(f"  {path.name}: annotation {number} is of the unknown image {image}")
        elif category not in labels:
            problems.append(f"  {path.name}: annotation {number} has unknown category {category}")
        elif "segmentation" not in entry:
            problems.append(f"  {path.name}: annotation {number} has no segmentation")
        else:
            crowd = bool(entry.get("iscrowd", 0))
            objects[image].append(
                CocoObject(number, labels[category], entry["segmentation"], crowd)
            )
    tag = path.stem.removeprefix("instances_") if path.stem != "annotations" else ""
    split = next((s for s in ("train", "val", "test") if tag.startswith(s)), "")
    found = []
    for number, entry in known.items():
        name = str(entry.get("file_name", ""))
        file = next((f for f in _places(folder, tag, name) if f.is_file()), None)
        if file is None:
            problems.append(f"  {path.name}: image {number} ({name or 'no file_name'}) is missing")
            continue
        found.append(CocoImage(Path(name).stem, file, path, split, names, tuple(objects[number])))
    return found


def _places(folder: Path, tag: str, name: str) -> list[Path]:
    if not name:
        return []
    places = [folder / "images", *([folder / tag, folder / "images" / tag] if tag else []), folder]
    return [place / name for place in places]
