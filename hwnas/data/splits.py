"""Which image belongs to which split: by a table, by lists of names, or by a seed."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwnas.errors import DataError

__all__ = ["SPLITS", "Splits", "drawn_split", "read_splits"]

SPLITS = ("train", "val", "test")
FRACTIONS = (0.8, 0.1, 0.1)


@dataclass(frozen=True, slots=True)
class Splits:
    """Split and kind of images by name. `listed` says that unnamed images are not used."""

    source: str
    split: Mapping[str, str]
    kind: Mapping[str, str]
    listed: bool


def drawn_split(name: str, seed: int, fractions: Sequence[float] = FRACTIONS) -> str:
    """The split of an image, from its name and a seed alone: adding images moves no other."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    train, val, _ = fractions
    return "train" if place < train else "val" if place < train + val else "test"


def read_splits(
    folder: Path,
    names: Sequence[str],
    problems: list[str],
    *,
    seed: int | None = None,
    fractions: Sequence[float] = FRACTIONS,
) -> Splits | None:
    """The splits of a data folder; None where nothing says any.

    A `seed` draws them, whatever files there are; else `split.csv` with the columns name and split
    (and maybe kind), else `train.txt`, `val.txt`, `test.txt` with one name a line (a file's ending
    may be there). What does not fit is added to `problems`.

    Raises:
        DataError: `fractions` are not three shares that sum up to 1.
    """
    if seed is not None:
        if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
            raise DataError(
                f"fractions {', '.join(map(str, fractions))}: expected three shares of train, val "
                "and test that sum up to 1"
            )
        drawn = {name: drawn_split(name, seed, fractions) for name in names}
        return Splits(f"seed {seed}", drawn, {}, listed=False)
    if (folder / "split.csv").is_file():
        return _from_table(folder / "split.csv", names, problems)
    if any((folder / f"{split}.txt").is_file() for split in SPLITS):
        return _from_lists(folder, names, problems)
    return None


def _from_table(path: Path, names: Sequence[str], problems: list[str]) -> Splits | None:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = {"name", "split"} - set(reader.fieldnames or ())
            if missing:
                problems.append(f"  split.csv: no column {', '.join(sorted(missing))}")
                return None
            rows = {row["name"]: row for row in reader}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.append(f"  split.csv: cannot be read ({error})")
        return None
    known = set(names)
    problems += [f"  split.csv: {name} has no image" for name in rows if name not in known]
    problems += [f"  {name}: not in split.csv" for name in names if name not in rows]
    split = {name: row["split"] or "" for name, row in rows.items()}
    kind = {name: row.get("kind") or "" for name, row in rows.items()}
    return Splits(path.name, split, kind, listed=False)


def _from_lists(folder: Path, names: Sequence[str], problems: list[str]) -> Splits:
    known, split = set(names), dict[str, str]()
    found = [name for name in SPLITS if (folder / f"{name}.txt").is_file()]
    for part in found:
        for line in (folder / f"{part}.txt").read_text(encoding="utf-8").splitlines():
            word = line.strip()
            if not word:
                continue
            name = word if word in known else Path(word).stem
            if name not in known:
                problems.append(f"  {part}.txt: {word} has no image")
            elif split.setdefault(name, part) != part:
                problems.append(f"  {part}.txt: {name} is in {split[name]}.txt too")
    return Splits(", ".join(f"{name}.txt" for name in found), split, {}, listed=True)
