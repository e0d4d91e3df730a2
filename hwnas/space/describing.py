"""A space in plain data and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hwnas.space.constraints import Table
from hwnas.space.layout import Layout
from hwnas.space.links import Link

if TYPE_CHECKING:
    from hwnas.space.space import SearchSpace


def to_dict(
    space: SearchSpace, layout: Layout, links: Sequence[Link], tables: Sequence[Table]
) -> dict[str, Any]:
    """Return JSON-ready data; the size is text, as it may exceed what JSON readers hold."""
    return {
        "name": space.name,
        "description": space.description,
        "size": str(space.size()),
        "size_is_exact": space.size_is_exact,
        "genes": [_gene(layout, c) for c in range(len(layout.genes))],
        "variables": [v.name for v in space.variables],
        "links": [list(tied.patterns) for tied in links],
        "constraints": list(dict.fromkeys(t.label for t in tables)),
        "slots": [{"name": s.name, "genes": list(s.genes)} for s in space.slots],
        "supernet": space.supernet,
    }


def describe(
    space: SearchSpace, layout: Layout, links: Sequence[Link], tables: Sequence[Table]
) -> str:
    """Return lines for people: the size, the search variables by kind, links and constraints."""
    about = "architectures" if space.size_is_exact else "architectures at most"
    size = space.size()
    number = f"{size:,}" if size < 10**9 else f"about 10^{math.log10(size):.1f}"
    lines = [
        f"{space.name}: {space.description}".rstrip(": "),
        f"{number} {about}, {space.n_var} search variables, {len(space.genes)} genes",
        *_kinds(space),
        *(f"tied: {', '.join(tied.patterns)}" for tied in links),
        *dict.fromkeys(f"constraint: {t.label}" for t in tables),
    ]
    return "\n".join(lines)


def _gene(layout: Layout, column: int) -> dict[str, Any]:
    gene = layout.genes[column]
    # The first active index may lie past the last option: then the gene is never active.
    active = {
        layout.genes[d].name: list(layout.genes[d].options[first:])
        for d, first in layout.conditions[column]
    }
    return {
        "name": gene.name,
        "options": list(gene.options),
        "ordered": gene.ordered,
        "role": gene.role,
        "active_when": active,
    }


def _kinds(space: SearchSpace) -> list[str]:
    """Gather variables that differ in the numbers of their names only, such as `blocks.*.heads`."""
    kinds: dict[tuple[str, str], int] = {}
    for v in space.variables:
        name = ".".join("*" if p.isdigit() else p for p in v.name.split("."))
        options = (" < " if v.ordered else " | ").join(str(o) for o in v.options)
        kinds[name, options] = kinds.get((name, options), 0) + 1
    return [f"{name} ({n}): {options}" for (name, options), n in kinds.items()]
