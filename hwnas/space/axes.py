"""Slices of a space along one axis: one kind of gene at one value, all others at their largest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hwnas.space.arch import Arch
from hwnas.space.declarations import Scalar
from hwnas.space.space import SearchSpace

__all__ = ["SAM_AXES", "Axis", "arch_with", "axis_settings", "axis_values"]


@dataclass(frozen=True)
class Axis:
    """Genes that take one value together; `patterns` are globs over gene names.

    `operator` is the kind of reduction that the axis belongs to, `label` its name for people.
    """

    name: str
    operator: str
    label: str
    patterns: tuple[str, ...]

    def genes(self, space: SearchSpace) -> list[str]:
        """Names of the genes of a space on this axis; empty where it has none."""
        return [g.name for g in space.genes if any(_fits(g.name, p) for p in self.patterns)]


_W, _A, _ATTN = "blocks.*.*.w_bits", "blocks.*.*.a_bits", "blocks.*.attn_bits"

SAM_AXES: tuple[Axis, ...] = (
    Axis("resolution", "resolution", "resolution", ("resolution",)),
    Axis("token_grid", "feature size", "token grid (F1), halved from stage", ("token_grid",)),
    Axis("dim", "feature size", "embedding width (F2)", ("dim",)),
    Axis("depth", "depth", "blocks kept in a stage", ("keep.*",)),
    Axis("heads", "width", "heads", ("blocks.*.heads",)),
    Axis("ratio", "width", "MLP ratio", ("blocks.*.ratio",)),
    Axis("bits", "bit-width", "bits of weights, inputs and attention", (_W, _A, _ATTN)),
    Axis("w_bits", "bit-width", "bits of weights alone", (_W,)),
    Axis("a_bits", "bit-width", "bits of inputs alone", (_A,)),
    Axis("attn_bits", "bit-width", "bits of attention alone", (_ATTN,)),
)
"""Resolution, feature size, depth, width and bit-width of a SAM encoder."""


def axis_values(space: SearchSpace, axis: Axis) -> list[Scalar]:
    """Values of an axis from large to small, the largest included; empty without such genes."""
    genes = [space.gene(name) for name in axis.genes(space)]
    found = dict.fromkeys(o for gene in genes for o in reversed(gene.options))
    numbers = [o for o in found if not isinstance(o, str)]
    if len(numbers) == len(found):
        return sorted(numbers, reverse=True)
    return list(found)


def axis_settings(space: SearchSpace, axis: Axis, value: Scalar) -> dict[str, Scalar]:
    """What each gene of an axis takes at a value: the nearest number it has, of two the larger."""
    return {name: _nearest(space.gene(name).options, value) for name in axis.genes(space)}


def arch_with(space: SearchSpace, settings: Mapping[str, Scalar]) -> Arch:
    """The largest arch with some genes set; constraints may lower others.

    Raises:
        SpaceError: an unknown gene or option, or no arch has these values.
    """
    return space.freeze(dict(settings)).largest() if settings else space.largest()


def _nearest(options: Sequence[Scalar], value: Scalar) -> Scalar:
    if isinstance(value, str):
        return value if value in options else options[-1]
    numbers = [o for o in options if not isinstance(o, str)]
    return min(numbers, key=lambda o: (abs(o - value), -o))


def _fits(name: str, pattern: str) -> bool:
    parts, wanted = name.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
