"""Exact designs and fronts of searches as plain records, to the last bit, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from hwnas.search import Certificate, Column, Designs, ExactResult, ParetoFront
from hwnas.space import Archs, SearchSpace

__all__ = ["exact_from", "exact_record", "front_from", "front_record"]

Record = dict[str, Any]


def exact_record(result: ExactResult) -> Record:
    """The designs with their certificates, and how they were found."""
    return {
        "front": front_record(result.front),
        "certificates": [asdict(certificate) for certificate in result.certificates],
        "shared": list(result.shared), "combinations": result.combinations,
        "complete": result.complete, "solves": result.solves, "seconds": result.seconds,
    }  # fmt: skip


def exact_from(record: Mapping[str, Any], space: SearchSpace) -> ExactResult:
    """What `exact_record` was given."""
    return ExactResult(
        front_from(record["front"], space),
        tuple(Certificate(**certificate) for certificate in record["certificates"]),
        tuple(record["shared"]), record["combinations"], record["complete"], record["solves"],
        record["seconds"],
    )  # fmt: skip


def front_record(front: ParetoFront) -> Record:
    """Columns, and designs with their values and, where known, intervals."""
    return front.designs.to_dict()


def front_from(record: Mapping[str, Any], space: SearchSpace) -> ParetoFront:
    """What `front_record` was given, which was of `space`."""
    columns = tuple(Column(**column) for column in record["columns"])
    rows, unknown = record["designs"], (np.nan, np.nan)
    shape = (len(rows), len(columns))
    values = [[row["values"][column.name] for column in columns] for row in rows]
    ends = [[row["intervals"].get(column.name, unknown) for column in columns] for row in rows]
    intervals = np.array(ends, dtype=np.float64).reshape(*shape, 2)
    archs = Archs.of(space, [space.arch(row["genes"]) for row in rows])
    return ParetoFront(
        Designs(
            archs, columns, np.array(values, dtype=np.float64).reshape(shape),
            intervals[..., 0], intervals[..., 1],
        )
    )  # fmt: skip
