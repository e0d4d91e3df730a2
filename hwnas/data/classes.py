"""Names of classes, and which pixel value stands for which."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwnas.data.labeled import IGNORED, LabeledImage
from hwnas.errors import DataError

__all__ = ["ClassMap", "check_classes", "class_pixels", "read_classes"]

_LOG = logging.getLogger(__name__)
_BACKGROUND = ("background", "_background_")
_VOID = ("void", "ignore", "ignored", "unlabeled")
MAX_CLASSES = 254  # 0 is background, 255 ignored


@dataclass(frozen=True, slots=True)
class ClassMap:
    """Classes 1 to C and the pixel `values` that mean them in the files; 0 is background.

    `source` is the file that says so, for messages.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    source: str

    def labels(self, marks: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pixel values (H, W) as classes: 0 background, 1 to C, 255 ignored.

        Raises:
            DataError: values that no class has; lists them.
        """
        table = dict(zip(self.values, range(1, len(self.values) + 1), strict=True))
        table = {0: 0, IGNORED: IGNORED} | table
        found = np.unique(marks)
        unknown = [int(v) for v in found if int(v) not in table]
        if unknown:
            shown = ", ".join(map(str, unknown[:8])) + (", …" if len(unknown) > 8 else "")
            raise DataError(
                f"pixel values {shown} are no classes; {self.source} names "
                f"{_ranges(self.values)}, 0 is background and {IGNORED} ignored"
            )
        low = int(found.min())
        lookup = np.zeros(int(found.max()) - low + 1, dtype=np.uint8)
        for value in found:
            lookup[int(value) - low] = table[int(value)]
        return lookup[marks - low]


def read_classes(folder: Path) -> ClassMap | None:
    """Read `classes.json` or `classes.txt` of a data folder; None where there is neither.

    JSON is a list of names for the values 1, 2, … or a mapping of value to name; text has one name
    a line. A list whose first name is `background` begins at 0. A class named `void` or `ignore`
    is not a class: its value must be 255.

    Raises:
        DataError: not such a file, no name, a name or a value twice, or more than 254 classes.
    """
    for name in ("classes.json", "classes.txt"):
        path = folder / name
        if path.is_file():
            return _class_map(path, _pairs(path))
    return None


def _pairs(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".txt":
            found: object = [line.strip() for line in text.splitlines() if line.strip()]
        else:
            found = json.loads(text)
        if isinstance(found, Mapping):
            return sorted((int(value), str(name)) for value, name in found.items())
        if isinstance(found, list) and all(isinstance(name, str) for name in found):
            start = 0 if found and found[0].lower() in _BACKGROUND else 1
            return list(enumerate(found, start=start))
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}; expected {_FORM}") from error
    raise DataError(f"{path}: {type(found).__name__}; expected {_FORM}")


_FORM = 'names, one a line, or JSON: ["cat", "dog"] for the values 1 and 2, or {"7": "cat"}'


def _class_map(path: Path, pairs: Sequence[tuple[int, str]]) -> ClassMap:
    kept = [(v, n) for v, n in pairs if not _is_void(v, n)]
    values, names = [v for v, _ in kept], [n for _, n in kept]
    problems = [f"{n!r} is named twice" for n in sorted({n for n in names if names.count(n) > 1})]
    problems += [f"value {v} stands for {n!r}; use 1 or more" for v, n in kept if v < 1]
    problems += [f"value 255 stands for {n!r}; it means ignored" for v, n in kept if v == IGNORED]
    if not kept:
        problems.append("no class")
    if len(kept) > MAX_CLASSES:
        problems.append(f"{len(kept)} classes; at most {MAX_CLASSES}")
    if problems:
        raise DataError(f"{path}: " + "; ".join(problems))
    return ClassMap(tuple(names), tuple(values), path.name)


def _is_void(value: int, name: str) -> bool:
    word = name.lower()
    return (value == 0 and word in _BACKGROUND) or (value == IGNORED and word in _VOID)


def _ranges(values: Sequence[int]) -> str:
    if list(values) == list(range(1, len(values) + 1)):
        return f"1 to {len(values)}" if len(values) > 1 else "1"
    return ", ".join(map(str, values))


def class_pixels(images: Iterable[LabeledImage]) -> NDArray[np.int64]:
    """Pixels of background and of each class over all images, (C + 1,)."""
    total = np.zeros(0, dtype=np.int64)
    for image in images:
        size = len(image.classes) + 1
        total = total if len(total) else np.zeros(size, dtype=np.int64)
        counts = np.bincount(image.semantic.ravel(), minlength=256)
        total = total + counts[:size]
    return total


def check_classes(train: Sequence[LabeledImage], val: Sequence[LabeledImage] = ()) -> list[str]:
    """Names of classes that occur nowhere; a warning in the log names them.

    Such a class has no IoU and is left out of means. Between splits the order matters: a class of
    `val` that `train` lacks cannot be learned, so every score would be too low.

    Raises:
        DataError: a class occurs in `val` and never in `train`, or the two name other classes.
    """
    names = (train or val)[0].classes
    if val and val[0].classes != names:
        raise DataError(
            f"the training images have the classes {', '.join(names)}, the validation images "
            f"{', '.join(val[0].classes)}; give both the same classes file"
        )
    in_train, in_val = (class_pixels(x) if len(x) else None for x in (train, val))
    if in_train is not None and in_val is not None:
        unlearned = [
            n for n, t, v in zip(names, in_train[1:], in_val[1:], strict=True) if v > t == 0
        ]
        if unlearned:
            raise DataError(
                f"{', '.join(unlearned)}: in the validation split and never in the training split, "
                "so nothing can learn it; move images, draw another split with --split-seed, or "
                "take the class out of the classes file"
            )
    totals = sum(x for x in (in_train, in_val) if x is not None)
    absent = [
        name for name, count in zip(names, np.atleast_1d(totals)[1:], strict=True) if not count
    ]
    if absent:
        _LOG.warning(
            "no pixel is of class %s; without IoU, left out of means", ", ".join(map(repr, absent))
        )
    return absent
