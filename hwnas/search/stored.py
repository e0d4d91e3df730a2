"""Between outcomes (columns, in memory) and evaluations (lines, in the run folder)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from hwnas.errors import ArchError, RunError
from hwnas.records import Evaluation
from hwnas.search.ledger import row_keys
from hwnas.search.outcomes import Outcomes
from hwnas.space import Arch, Archs, SearchSpace

__all__ = ["by_key", "to_evaluations", "to_outcomes"]

T = TypeVar("T")


def by_key(space: SearchSpace, evaluations: Sequence[Evaluation]) -> dict[bytes, Evaluation]:
    """The stored evaluation of each architecture; the first one counts.

    Raises:
        RunError: a stored architecture does not belong to `space`.
    """
    rows = [np.empty((0, len(space.genes)), dtype=np.int16)]
    for evaluation in evaluations:
        try:
            rows.append(space.archs([Arch(space.name, evaluation.genes)]).matrix)
        except ArchError as error:
            raise RunError(
                f"evaluation {evaluation.index} ({evaluation.arch_id}) is not of the space "
                f"{space.name}: {error}; resume with the space that the run began with"
            ) from error
    found: dict[bytes, Evaluation] = {}
    for key, evaluation in zip(
        row_keys(Archs(space, np.concatenate(rows))), evaluations, strict=True
    ):
        found.setdefault(key, evaluation)
    return found


def to_outcomes(evaluations: Sequence[Evaluation], names: tuple[str, ...]) -> Outcomes:
    """Put stored evaluations into columns, bit for bit as they were computed."""
    unknown = (np.nan, np.nan)
    values = [[e.values.get(name, np.nan) for name in names] for e in evaluations]
    ends = [[e.intervals.get(name, unknown) for name in names] for e in evaluations]
    intervals = np.array(ends, dtype=np.float64).reshape(len(evaluations), len(names), 2)
    return Outcomes(
        names,
        np.array(values, dtype=np.float64).reshape(len(evaluations), len(names)),
        intervals[:, :, 0],
        intervals[:, :, 1],
        tuple(e.message for e in evaluations),
        tuple(_first(evaluations, name) for name in names),
        np.array([e.seconds for e in evaluations], dtype=np.float64),
        tuple(e.breakdown for e in evaluations),
    )


def to_evaluations(archs: Archs, outcomes: Outcomes, indexes: Sequence[int]) -> list[Evaluation]:
    """Make the lines of a batch; what is unknown or failed is absent from them."""
    known = ~np.isnan(outcomes.values)
    bounded = ~(np.isnan(outcomes.lo) | np.isnan(outcomes.hi))
    return [
        Evaluation(
            arch_id=arch_id,
            genes=archs[i].genes,
            values=_row(outcomes.names, outcomes.values[i].tolist(), known[i].tolist()),
            status="failed" if outcomes.messages[i] else "ok",
            message=outcomes.messages[i],
            intervals=_row(
                outcomes.names,
                list(zip(outcomes.lo[i].tolist(), outcomes.hi[i].tolist(), strict=True)),
                bounded[i].tolist(),
            ),
            fidelity=_row(outcomes.names, list(outcomes.fidelity), known[i].tolist()),
            breakdown=outcomes.breakdowns[i],
            seconds=round(float(outcomes.seconds[i]), 6),
            index=index,
        )
        for i, (arch_id, index) in enumerate(zip(archs.ids, indexes, strict=True))
    ]


def _row(names: Sequence[str], cells: Sequence[T], wanted: Sequence[bool]) -> dict[str, T]:
    return {n: cell for n, cell, there in zip(names, cells, wanted, strict=True) if there}


def _first(evaluations: Sequence[Evaluation], name: str) -> str:
    said = (e.fidelity.get(name, "") for e in evaluations)
    return next((text for text in said if text), "")
