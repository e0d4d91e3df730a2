"""The evaluated subnets that proxies are judged on: read, checked, each once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import hwnas
from hwnas.calibration import mean_by_name
from hwnas.errors import ArchError, ConfigError, DataError
from hwnas.records import EvaluatedSubnet, read_subnets, subnets_file
from hwnas.space import Arch, Archs, SearchSpace

__all__ = ["FEWEST", "Subnets", "read_labels", "shipped_subnets"]

Float = NDArray[np.float64]
FEWEST = 10
"""Subnets below which no order is judged."""


@dataclass(frozen=True, eq=False)
class Subnets:
    """Subnets of a space with their measured quality, in the order of their ids.

    Attributes:
        archs: n architectures.
        iou: Mean IoU of each over its lines, shape (n,).
        gbitops: BitOPs as the file has them, NaN where it does not say, shape (n,).
        source: Name of the file.
        prompt: Kind of prompt, None where the file does not say.
        splits: Splits that they were evaluated on, as far as the file says.
        supernets: Identities of the weights, as far as the file says.
        outside: How many of the file are not of the space.
        metric: What `iou` is, in words.
    """

    archs: Archs
    iou: Float
    gbitops: Float
    source: str
    prompt: str | None
    splits: tuple[str, ...]
    supernets: tuple[str, ...]
    outside: int
    metric: str = "mean IoU"

    def __len__(self) -> int:
        return len(self.iou)


def shipped_subnets(space: SearchSpace) -> Path:
    """The evaluated subnets that ship for a space.

    Raises:
        ConfigError: there are none.
    """
    name = f"{space.name.replace('-', '_')}_subnets"
    path = subnets_file(Path(hwnas.__file__).with_name("assets") / name)
    if path is None:
        raise ConfigError(
            f"no evaluated subnets ship for {space.name}; name a file with --subnets, made by "
            "`hwnas evaluate SUPERNET --archs random:200 --out FILE`"
        )
    return path


def read_labels(path: str | Path, space: SearchSpace, prompt: str | None = None) -> Subnets:
    """Read evaluated subnets of one kind of prompt; those outside of a restricted space are left.

    Args:
        path: JSONL that `hwnas evaluate --archs` wrote.
        space: what they are of.
        prompt: box, point or none; may be left open where the file holds one kind.

    Raises:
        DataError: the file is damaged, of another space, holds several kinds of prompt or none of
            the wanted one, or has too few subnets.
    """
    rows = _of_prompt(path, read_subnets(path), prompt)
    archs, inside, outside = [], [], []
    for row in rows:
        try:
            arch = space.arch(row.genes)
        except ArchError as error:
            outside.append(str(error))
            continue
        _check_id(path, row, arch, space)
        archs.append(arch)
        inside.append(row)
    if not archs:
        raise DataError(
            f"{path}: none of {len(rows)} subnets is of the space {space.name}: {outside[0]}; "
            "name the space that they were evaluated in with --space"
        )
    ids = [arch.id for arch in archs]
    first, iou = mean_by_name(ids, np.array([row.iou for row in inside], dtype=np.float64))
    if len(iou) < FEWEST:
        raise DataError(
            f"{path}: {len(iou)} different subnets of {space.name}; expected at least {FEWEST}, "
            "better 200: evaluate more of them"
        )
    bitops = [np.nan if row.bitops is None else row.bitops for row in inside]
    return Subnets(
        Archs.of(space, archs).take(first),
        iou,
        np.array(bitops, dtype=np.float64)[first],
        Path(path).name,
        rows[0].prompt,
        tuple(sorted({row.split for row in inside if row.split})),
        tuple(sorted({row.supernet for row in inside if row.supernet})),
        len(outside),
        _metric_of(path, inside),
    )


def _metric_of(path: str | Path, rows: Sequence[EvaluatedSubnet]) -> str:
    found = sorted({row.metric or "mean IoU" for row in rows})
    if len(found) > 1:
        raise DataError(
            f"{path}: quality is {' in some lines, '.join(found)} in others, and these cannot be "
            "compared; give a file of one kind"
        )
    return found[0]


def _of_prompt(
    path: str | Path, rows: tuple[EvaluatedSubnet, ...], prompt: str | None
) -> tuple[EvaluatedSubnet, ...]:
    kinds = sorted({str(row.prompt) for row in rows})
    if prompt is None and len(kinds) > 1:
        raise DataError(
            f"{path}: subnets were evaluated with the prompts {', '.join(kinds)}, and their means "
            "are not comparable; choose one with --prompt"
        )
    found = tuple(row for row in rows if prompt is None or row.prompt in (None, prompt))
    if not found:
        raise DataError(
            f"{path}: no subnet was evaluated with {prompt} prompts; the file has "
            f"{', '.join(kinds)}: choose one with --prompt"
        )
    return found


def _check_id(path: str | Path, row: EvaluatedSubnet, arch: Arch, space: SearchSpace) -> None:
    if row.arch_id != arch.id:
        raise DataError(
            f"{path}: subnet {row.arch_id} is {arch.id} in {space.name}: it is of another space, "
            "or of another version of it; name the space that it was evaluated in with --space"
        )
