"""Designs to evaluate: from files and run folders, by name, or drawn."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from hwnas.errors import ArchError, SpaceError, problem_lines
from hwnas.records import RunFolder
from hwnas.records.files import read_packed_text
from hwnas.space import Arch, Archs, SearchSpace

__all__ = ["archs_from"]

_RANDOM = re.compile(r"random:(\d+)")
_MOST_PROBLEMS = 8
Genes = Mapping[str, object]


def archs_from(
    space: SearchSpace, source: str, *, seed: int = 0, resolution: int | None = None
) -> Archs:
    """The designs that `source` names, each once.

    `largest`, `smallest`, `random:N` (drawn with `seed`; their costs cover the range of the
    space), a run folder (its front), a `front.csv`, or a JSON lines file whose lines have `genes`,
    packed by gzip where its name ends in `.gz`. `resolution` replaces the resolution of every
    design.

    Raises:
        ArchError: it names nothing, or designs are not of the space; all are listed.
    """
    drawn = _RANDOM.fullmatch(source)
    if source in ("largest", "smallest"):
        found = [space.largest() if source == "largest" else space.smallest()]
    elif drawn is not None:
        found = list(_draw(space, np.random.default_rng(seed), int(drawn[1])))
    else:
        found = _checked(space, source, list(_genes(space, source)))
    if resolution is not None:
        found = _at(space, found, resolution)
    if not found:
        raise ArchError(f"--archs {source}: no designs in it; expected at least one")
    return Archs.of(space, found).unique()


def _draw(space: SearchSpace, rng: np.random.Generator, n: int) -> Archs:
    if n < 1:
        raise ArchError(f"--archs random:{n}: expected random:N with N of 1 or more")
    from hwnas.supernet.training.sampling import draw_archs

    return draw_archs(space, rng, n)


def _genes(space: SearchSpace, source: str) -> Iterator[Genes]:
    path = Path(source)
    if (path / "front.json").is_file():
        with RunFolder.open(path) as folder:
            for design in json.loads(folder.read_text("front.json"))["designs"]:
                yield design["genes"]
        return
    try:
        text = read_packed_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ArchError(
            f"--archs {source}: cannot be read ({error}); expected largest, smallest, random:N, a "
            "run folder with a front, a front.csv, or a file with one JSON a line"
        ) from error
    if path.suffix == ".csv":
        yield from _csv_genes(space, source, text)
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield _line_genes(space, f"--archs {source}, line {number}", line)


def _csv_genes(space: SearchSpace, source: str, text: str) -> Iterator[Genes]:
    reader = csv.DictReader(text.splitlines())
    columns = [c for c in reader.fieldnames or () if c.startswith("gene.")]
    if not columns:
        raise ArchError(
            f"--archs {source}: no column gene.NAME; expected the front.csv of a run folder"
        )
    for row in reader:
        cells = {c.removeprefix("gene."): row[c] for c in columns if row[c]}
        yield {name: _option(space, name, cell) for name, cell in cells.items()}


def _option(space: SearchSpace, name: str, cell: str) -> object:
    """The option of a gene that is spelled `cell`; the text itself where none is."""
    try:
        options = space.gene(name).options
    except SpaceError:
        return cell
    return next((option for option in options if str(option) == cell), cell)


def _line_genes(space: SearchSpace, place: str, line: str) -> Genes:
    try:
        content = json.loads(line)
    except ValueError as error:
        raise ArchError(f"{place}: not JSON ({error})") from error
    genes = content.get("genes") if isinstance(content, dict) else None
    if not isinstance(genes, dict):
        raise ArchError(f'{place}: no "genes"; expected {{"genes": {{name: value}}}}')
    if content.get("space", space.name) != space.name:
        raise ArchError(f"{place}: a design of {content['space']}; expected one of {space.name}")
    return genes


def _checked(space: SearchSpace, source: str, found: list[Genes]) -> list[Arch]:
    archs, problems = [], []
    for number, genes in enumerate(found, start=1):
        try:
            archs.append(space.arch(genes))
        except ArchError as error:
            problems.append(f"design {number}: {error}")
    if problems:
        raise ArchError(
            f"--archs {source}: {len(problems)} of {len(found)} designs are not of {space.name}\n"
            + problem_lines(problems, _MOST_PROBLEMS)
        )
    return archs


def _at(space: SearchSpace, archs: list[Arch], resolution: int) -> list[Arch]:
    options = space.gene("resolution").options
    if resolution not in options:
        raise ArchError(
            f"--resolution {resolution}: {space.name} has {', '.join(map(str, options))}"
        )
    return [space.arch({**arch.genes, "resolution": resolution}) for arch in archs]
