"""Matrices of a search's costs in its run folder, so that its report computes no cost."""

from __future__ import annotations

import json
from typing import Any

from hwnas.cost.matrices import CostMatrices, Matrices, error_matrices
from hwnas.errors import RunError
from hwnas.records import RunFolder
from hwnas.search import Problem

__all__ = ["keep_matrices", "read_matrices"]

_FILE = "matrices.json"


def keep_matrices(folder: RunFolder, problem: Problem) -> None:
    """Write what each group costs at each option, of costs that are such sums, once.

    Raises:
        RunError: it cannot be written.
    """
    models = [c.model for c in problem.columns if isinstance(c.model, Matrices)]
    if not models or (folder.path / _FILE).exists():
        return
    content = [
        {
            "name": getattr(model, "name", ""),
            "unit": getattr(model, "unit", ""),
            "note": str(getattr(model, "note", "")),
            "groups": [dict(group) for group in model.matrices()],
        }
        for model in models
    ]
    folder.write_text(_FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_matrices(folder: RunFolder) -> tuple[CostMatrices, ...]:
    """What `keep_matrices` wrote, as tables; empty without.

    Raises:
        RunError: the file is damaged.
    """
    if not (folder.path / _FILE).exists():
        return ()
    try:
        found: list[dict[str, Any]] = json.loads(folder.read_text(_FILE))
        return tuple(
            CostMatrices(
                one["name"], one["unit"], one["note"], tuple(error_matrices(one["groups"]))
            )
            for one in found
        )
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder.path / _FILE} is damaged ({error}); remove it, and `hwnas resume` writes it"
        ) from error
