"""Tied genes: several genes that are one search variable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hwnas.errors import SpaceError
from hwnas.space.declarations import option_key
from hwnas.space.genes import Flat
from hwnas.space.messages import Problems, matching


@dataclass(frozen=True)
class Link:
    """Names or globs of genes that always have the same value; made by `link`."""

    patterns: tuple[str, ...]


def link(*names_or_globs: str) -> Link:
    """Tie genes together: one search variable, the same value wherever they are active.

    A glob's wildcard stays within one part of a name: `link("blocks.*.heads")`. The genes must have
    the same options and order. Links that share a gene are joined.
    """
    return Link(tuple(names_or_globs))


def groups_of(flats: Sequence[Flat], links: Sequence[Link]) -> tuple[tuple[int, ...], ...]:
    """Partition gene columns into groups of tied genes, in the order of their first genes.

    Raises:
        SpaceError: a link matches no gene or a single one, or ties genes with different options.
    """
    names = [f.name for f in flats]
    group_of = list(range(len(flats)))
    problems: list[str] = []
    for tied in links:
        try:
            columns = _columns(tied, names)
        except SpaceError as error:
            problems.append(str(error))
            continue
        problems += _unlike(tied, [flats[c] for c in columns])
        joined = {group_of[c] for c in columns}
        group_of = [min(joined) if g in joined else g for g in group_of]
    if problems:
        raise Problems("links", problems)
    return tuple(
        tuple(c for c, g in enumerate(group_of) if g == leader) for leader in sorted(set(group_of))
    )


def _columns(tied: Link, names: list[str]) -> list[int]:
    where = f"link({', '.join(tied.patterns)})"
    found = {n for p in tied.patterns for n in matching(p, names, where=where)}
    if len(found) < 2:
        raise SpaceError(f"{where}: ties {sorted(found)}; expected two genes or more")
    return sorted(names.index(n) for n in found)


def _unlike(tied: Link, flats: list[Flat]) -> list[str]:
    first = flats[0]
    return [
        f"link({', '.join(tied.patterns)}): '{f.name}' has options {list(f.choice.options)}, and "
        f"'{first.name}' has {list(first.choice.options)}; tied genes have the same"
        for f in flats[1:]
        if _shape(f) != _shape(first)
    ]


def _shape(flat: Flat) -> tuple[bool, list[tuple[bool, object]]]:
    return flat.choice.ordered, [option_key(o) for o in flat.choice.options]
