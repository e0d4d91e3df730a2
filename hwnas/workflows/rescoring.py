"""Scoring the final designs once more, with a costlier quality and its standard error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from hwnas.cost import CostModel, Direction, estimate
from hwnas.records import RunFolder
from hwnas.space import Archs
from hwnas.workflows.watch import Watch

__all__ = ["Rescored", "read_rescored", "rescore"]

_FILE = "rescored.json"


@dataclass(frozen=True)
class Rescored:
    """Values of one cost model by arch id, each with its standard error where one is known."""

    name: str
    unit: str
    direction: Direction
    values: Mapping[str, tuple[float, float | None]]


def rescore(
    model: CostModel, archs: Archs, watch: Watch, *, folder: RunFolder | None = None
) -> Rescored:
    """Evaluate `model` on every design; what the folder holds already is not done again.

    The interval of the rescoring model is one standard error to either side, so half its width
    is the standard error. Each design is saved as it is done: a kill loses one.
    """
    earlier = read_rescored(folder) if folder is not None else None
    done = dict(earlier.values) if earlier is not None and earlier.name == model.name else {}
    watch.begin(f"scoring the front by {model.name}", len(archs))
    for index in range(len(archs)):
        one = archs[index : index + 1]
        if one.ids[0] not in done:
            batch = estimate(model, one)
            error = None
            if batch.lo is not None and batch.hi is not None:
                error = float(batch.hi[0] - batch.lo[0]) / 2
            done[one.ids[0]] = (float(batch.value[0]), error)
            if folder is not None:
                _write(folder, model, done)
        watch.advance(index + 1)
    return Rescored(model.name, model.unit, model.direction, {i: done[i] for i in archs.ids})


def read_rescored(folder: RunFolder) -> Rescored | None:
    """What `rescore` left in a run folder; None where it left nothing."""
    if not (folder.path / _FILE).exists():
        return None
    found = json.loads(folder.read_text(_FILE))
    values = {row["arch_id"]: (row["value"], row["standard_error"]) for row in found["designs"]}
    return Rescored(found["name"], found["unit"], found["direction"], values)


def _write(
    folder: RunFolder, model: CostModel, done: Mapping[str, tuple[float, float | None]]
) -> None:
    content = {
        "name": model.name,
        "unit": model.unit,
        "direction": model.direction,
        "designs": [
            {"arch_id": arch_id, "value": value, "standard_error": error}
            for arch_id, (value, error) in done.items()
        ],
    }
    folder.write_text(_FILE, json.dumps(content, indent=1) + "\n")
