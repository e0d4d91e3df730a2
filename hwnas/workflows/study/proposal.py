"""From verdicts on values and layers to the file of a smaller space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hwnas.space import Scalar, SearchSpace
from hwnas.space.derived import derived_yaml
from hwnas.workflows.study.layers import LayerNoise, tolerant
from hwnas.workflows.study.slices import Slice
from hwnas.workflows.study.verdict import Point

__all__ = ["kept_options", "proposal_yaml"]

Kept = dict[str, tuple[Scalar, ...]]


def kept_options(
    space: SearchSpace,
    slices: Sequence[Slice],
    points: Sequence[Point],
    layers: Sequence[LayerNoise],
    *,
    max_layer_loss: float,
) -> Kept:
    """The options left of each gene of `space` that an axis of the study touches.

    The largest option of a gene stays. An option stays if a kept value of any axis sets it; a
    bit-width also in the layers that bear it as well as is usual at the fewest bits kept
    (`tolerant`). A bit-width goes, with those below it, from a layer where it alone costs more than
    `max_layer_loss` points.
    """
    touched = {gene for one in slices for gene in one.settings}
    left: dict[str, set[Scalar]] = {
        gene.name: {gene.options[-1]} for gene in space.genes if gene.name in touched
    }
    for one, point in zip(slices, points, strict=True):
        for gene, option in one.settings.items() if point.kept else ():
            if gene in left:
                left[gene].add(option)
    bits = {row.gene for row in layers}
    numbers = {gene: {int(o) for o in left[gene]} for gene in bits & left.keys()}
    for gene, option in tolerant(list(layers), numbers):
        if gene in left:
            left[gene].add(option)
    for row in layers:
        if row.gene in left and row.loss is not None and row.loss > max_layer_loss:
            left[row.gene] = {o for o in left[row.gene] if int(o) > row.bits}
    return {
        gene.name: tuple(o for o in gene.options if o in left[gene.name])
        for gene in space.genes
        if gene.name in left
    }


def proposal_yaml(base: str, space: SearchSpace, kept: Kept, *, name: str, description: str) -> str:
    """The derived space of the kept options, by pattern where blocks agree."""
    return derived_yaml(base, _by_pattern(space, kept), name=name, description=description)


def _by_pattern(space: SearchSpace, kept: Kept) -> Mapping[str, Sequence[Scalar]]:
    """One line a kind of gene, then those genes that keep less; nothing where all is kept."""
    options = {gene.name: gene.options for gene in space.genes}
    kinds: dict[str, list[str]] = {}
    for name in options:
        kinds.setdefault(_kind(name), []).append(name)
    written: dict[str, Sequence[Scalar]] = {}
    for kind, names in kinds.items():
        union = {o for name in names for o in kept.get(name, options[name])}
        whole = {o for name in names for o in options[name]}
        if len(union) < len(whole):
            written[kind] = _in_order([o for name in names for o in options[name]], union)
        for name in names:
            own = set(kept.get(name, options[name]))
            if own < union & set(options[name]):
                written[name] = _in_order(options[name], own)
    return written


def _in_order(options: Sequence[Scalar], wanted: Iterable[Scalar]) -> tuple[Scalar, ...]:
    found = set(wanted)
    return tuple(dict.fromkeys(o for o in options if o in found))


def _kind(name: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in name.split("."))
