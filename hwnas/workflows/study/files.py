"""The files that a finished study leaves in its folder."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING

from hwnas.records import EvaluatedSubnet
from hwnas.space import SearchSpace
from hwnas.workflows.study.pictures import write_pictures
from hwnas.workflows.study.tables import markdown, matrix_csv, to_json
from hwnas.workflows.study_log import StudyLog

if TYPE_CHECKING:
    from hwnas.workflows.study.space import SpaceStudy

__all__ = ["write_study"]

_PROPOSED, _SUBNETS = "proposed_space.yaml", "evaluations.jsonl"


def write_study(study: SpaceStudy, space: SearchSpace, log: StudyLog) -> SpaceStudy:
    """Write tables, pictures, the proposed space, and the evaluated subnets of `space`.

    Raises:
        RunError: a file cannot be written.
    """
    log.write("space_study.json", json.dumps(to_json(study), indent=2, allow_nan=False) + "\n")
    log.write("space_study.md", markdown(study))
    if study.layers:
        log.write("sensitivity.csv", matrix_csv(study.layers))
    write_pictures(study, log.path)
    if study.proposed is not None:
        log.write(_PROPOSED, study.proposed)
        log.write(_SUBNETS, _subnets(space, log))
    return study


def _subnets(space: SearchSpace, log: StudyLog) -> str:
    """What was evaluated of the space itself, as `hwnas evaluate` writes it."""
    own = {gene.name for gene in space.genes}
    names = [field.name for field in fields(EvaluatedSubnet)]
    rows = [r for r in log.records("subnet/") if r["genes"].keys() <= own]
    lines = [EvaluatedSubnet(**{name: row[name] for name in names}).to_json() for row in rows]
    return "".join(f"{line}\n" for line in lines)
