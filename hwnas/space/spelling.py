"""From a mapping of names to values to a canonical row of the gene matrix."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import ArchError
from hwnas.space.constraints import Table
from hwnas.space.declarations import option_key
from hwnas.space.encoding import encode, spread
from hwnas.space.layout import Layout, Matrix
from hwnas.space.messages import nearest


def read_row(layout: Layout, genes: Mapping[str, object]) -> tuple[Matrix, list[str]]:
    """Return the canonical matrix (1, n_genes) of the genes given, and every problem found.

    Genes of dropped blocks are checked and left out; genes with a single option, and tied genes of
    which another one is given, may be left unsaid. The row means nothing if there are problems.
    """
    given, problems = _indices(layout, genes)
    full = np.zeros((1, len(layout.genes)), dtype=np.int16)
    for columns in layout.groups:  # first guess, to learn which genes are active
        full[0, list(columns)] = next((given[c] for c in columns if c in given), 0)
    active = layout.canonical(full)[0] >= 0
    for columns in layout.groups:
        said = [c for c in columns if c in given and active[c]]
        if said:
            full[0, list(columns)] = given[said[0]]
            problems += _disagreement(layout, [(c, given[c]) for c in said])
    row = layout.canonical(full)
    problems += _missing(layout, row, genes)
    return row, problems


def read_rows(
    layout: Layout, many: Sequence[Mapping[str, object]]
) -> tuple[Matrix, NDArray[np.bool_]]:
    """Read canonical spellings fast; returns (n, n_genes) and which rows need `read_row`, (n,).

    A row is doubtful if a name or an option is unknown, tied genes differ, or the genes present are
    not those that the depths call for.
    """
    matrix = np.full((len(many), len(layout.genes)), -1, dtype=np.int16)
    doubtful = np.zeros(len(many), dtype=np.bool_)
    for row, genes in enumerate(many):
        try:
            columns = [layout.column[name] for name in genes]
            pairs = zip(columns, genes.values(), strict=True)
            indices = [layout.option_index[c][option_key(v)] for c, v in pairs]
        except (KeyError, TypeError):
            doubtful[row] = True
        else:
            matrix[row, columns] = indices
    full = spread(layout, encode(layout, matrix))
    return matrix, doubtful | (layout.canonical(full) != matrix).any(axis=1)


def broken(layout: Layout, tables: Sequence[Table], row: Matrix) -> list[str]:
    """Name the constraints that one canonical row breaks, with the values that break them."""
    found = []
    for table in tables:
        if table.violated(layout, row)[0]:
            genes = [(layout.genes[c], int(row[0, c])) for c in table.columns]
            values = ", ".join(f"{g.name}={g.options[i]!r}" for g, i in genes)
            found.append(f"{table.label}: {values} is not allowed")
    return found


def read_arch_json(text: str, space: str) -> dict[str, object]:
    """Return the genes of an arch's JSON.

    Raises:
        ArchError: not JSON, not of the form of an arch, or of another space.
    """
    try:
        read = json.loads(text)
    except json.JSONDecodeError as error:
        raise ArchError(f"not JSON ({error}); expected what Arch.to_json writes") from error
    if not isinstance(read, dict) or set(read) != {"space", "genes"}:
        got = sorted(read) if isinstance(read, dict) else type(read).__name__
        raise ArchError(f'JSON with {got}; expected {{"space": name, "genes": {{name: value}}}}')
    if read["space"] != space:
        raise ArchError(f"an architecture of '{read['space']}'; expected one of '{space}'")
    if not isinstance(read["genes"], dict):
        raise ArchError(f'"genes" is {read["genes"]!r}; expected an object of names and values')
    return dict(read["genes"])


def _indices(layout: Layout, genes: Mapping[str, object]) -> tuple[dict[int, int], list[str]]:
    given: dict[int, int] = {}
    problems: list[str] = []
    for name, value in genes.items():
        column = layout.column.get(name)
        if column is None:
            problems.append(f"no gene '{name}'{nearest(str(name), list(layout.column))}")
            continue
        index = _index(layout, column, value)
        if index is None:
            options = list(layout.genes[column].options)
            problems.append(f"{name}={value!r}; expected one of {options}")
        else:
            given[column] = index
    return given, problems


def _index(layout: Layout, column: int, value: object) -> int | None:
    try:
        return layout.option_index[column].get(option_key(value))
    except TypeError:  # a list or a mapping where a scalar belongs
        return None


def _disagreement(layout: Layout, said: list[tuple[int, int]]) -> list[str]:
    if len({index for _, index in said}) == 1:
        return []
    values = ", ".join(f"{layout.genes[c].name}={layout.genes[c].options[i]!r}" for c, i in said)
    return [f"tied genes differ: {values}; give them one value"]


def _missing(layout: Layout, row: Matrix, genes: Mapping[str, object]) -> list[str]:
    """Name the groups of which a gene is active and none is mentioned; one with one option may."""
    missing = []
    for g in layout.free:
        active = [c for c in layout.groups[g] if row[0, c] >= 0]
        if active and not any(layout.genes[c].name in genes for c in layout.groups[g]):
            gene = layout.genes[active[0]]
            missing.append(f"{gene.name} is missing; expected one of {list(gene.options)}")
    return missing
