"""The labels that the quality predictor learns from: evaluated subnets, checked and averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import hwnas
from hwnas.calibration import mean_by_name
from hwnas.cost import CostContext
from hwnas.errors import ArchError, DataError
from hwnas.records import EvaluatedSubnet, read_subnets, subnets_file
from hwnas.records.tensor_files import stem_of
from hwnas.space import Arch, Archs, SearchSpace

__all__ = ["Labels", "labels_of_file", "subnets_beside"]

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Labels:
    """Qualities `y` (n,) of n different architectures of a space, in the order of their ids."""

    archs: Archs
    y: Float

    @classmethod
    def of(cls, archs: Archs, values: Float) -> Labels:
        """Give each architecture once, with the mean of its values."""
        first, mean = mean_by_name(archs.ids, values)
        return cls(archs.take(first), mean)

    def __len__(self) -> int:
        return len(self.y)


def subnets_beside(context: CostContext) -> Path | None:
    """The file of evaluated subnets beside the context's supernet, if there is one.

    `my_supernet.safetensors[.gz]` has `my_subnets.jsonl` or `.jsonl.gz` beside it.
    """
    source = context.supernet_source
    if source is not None and Path(source).is_file():
        stem = stem_of(source)
        name = stem.replace("supernet", "subnets") if "supernet" in stem else f"{stem}_subnets"
        return subnets_file(Path(source).with_name(name))
    shipped = (source or context.space.name).replace("-", "_")
    return subnets_file(Path(hwnas.__file__).with_name("assets") / f"{shipped}_subnets")


def labels_of_file(path: Path, prompt: str, context: CostContext) -> Labels:
    """Read evaluated subnets as labels for archs of the whole space.

    Raises:
        DataError: the file is damaged, belongs to another space or supernet, has nothing for
            `prompt`, or was made on a test split.
    """
    rows = read_subnets(path)
    if any(row.split == "test" for row in rows):
        raise DataError(
            f"{path}: evaluated on a test split; a search must not learn from it, evaluate the "
            "subnets on the val split"
        )
    of_prompt = [row for row in rows if row.prompt in (None, prompt)]
    if not of_prompt:
        there = ", ".join(sorted({str(row.prompt) for row in rows}))
        raise DataError(
            f"{path}: no subnet was evaluated with {prompt} prompts; the file has {there}: "
            "choose one with --set cost.quality.prompt=..."
        )
    _check_supernet(path, {row.supernet for row in rows if row.supernet}, context)
    archs = _archs(path, of_prompt, context.space.whole)
    return Labels.of(archs, np.array([row.iou for row in of_prompt], dtype=np.float64))


def _archs(path: Path, rows: Sequence[EvaluatedSubnet], space: SearchSpace) -> Archs:
    try:
        archs = space.archs([Arch(space.name, row.genes) for row in rows])
    except ArchError as error:
        raise DataError(
            f"{path}: not subnets of the space {space.name}: {error}; name a file that was made "
            "for it"
        ) from error
    other = [row.arch_id for row, own in zip(rows, archs.ids, strict=True) if row.arch_id != own]
    if other:
        raise DataError(
            f"{path}: {len(other)} of {len(rows)} subnets ({other[0]}, ...) are of another space "
            f"than {space.name}, or of another version of it; name a file that was made for it"
        )
    return archs


def _check_supernet(path: Path, named: set[str], context: CostContext) -> None:
    """Compare identities; a context or a file that knows none is taken at its word."""
    if not named or context.supernet is None:
        return
    from hwnas.supernet.identity import supernet_identity

    own = supernet_identity(context.require("supernet", by="quality"))
    if own is not None and named != {own}:
        source = context.supernet_source or f"that ships with {context.space.name}"
        raise DataError(
            f"{path}: subnets of another supernet ({', '.join(sorted(named))}) than the one "
            f"{source} ({own}); evaluate subnets of this one with `hwnas evaluate --archs`, or "
            "name the file that belongs to it with --set cost.quality.archs=FILE"
        )
