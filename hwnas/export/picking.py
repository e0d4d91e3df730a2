"""Picking one design of a run: the knee, an arch id, or the best within limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from hwnas.errors import ArchError, ConfigError, RunError
from hwnas.records import RunFolder
from hwnas.search import ParetoFront
from hwnas.search.designs import Column, Design, Designs
from hwnas.space import Archs, SearchSpace

__all__ = ["pick", "read_front"]

_SHOWN = 6


def read_front(folder: RunFolder, space: SearchSpace) -> ParetoFront:
    """The front of a finished run, from its `front.json`.

    Raises:
        RunError: the run has no front yet, or the file is damaged.
        ArchError: a design is not of the space.
    """
    if not (folder.path / "front.json").is_file():
        raise RunError(
            f"{folder.path} has no front yet; finish the run with: hwnas resume {folder.path}"
        )
    try:
        content: dict[str, Any] = json.loads(folder.read_text("front.json"))
        columns = tuple(Column(**column) for column in content["columns"])
        rows: list[Mapping[str, Any]] = content["designs"]
        genes = [row["genes"] for row in rows]
        shape, names = (len(rows), len(columns)), [column.name for column in columns]
        values = np.array([[row["values"][n] for n in names] for row in rows]).reshape(shape)
        unknown = (np.nan, np.nan)
        ends = np.array([[row["intervals"].get(n, unknown) for n in names] for row in rows])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder.path}/front.json is damaged ({error!r}); write it again with: "
            f"hwnas resume {folder.path}"
        ) from error
    ends = ends.reshape(*shape, 2).astype(np.float64)
    archs = Archs.of(space, [space.arch(row) for row in genes])
    return ParetoFront(Designs(archs, columns, values, ends[..., 0], ends[..., 1]))


def pick(front: ParetoFront, choice: str) -> Design:
    """One design: `knee`, the beginning of an arch id, or limits such as `latency<=20,macs<=3`.

    Within limits the best in quality wins: the first objective that is better when larger, else
    the first objective. A limit holds against the pessimistic end of an interval.

    Raises:
        ArchError: no design, or more than one, has such an id.
        ConfigError: a limit of another form, or on something that was not evaluated.
        InfeasibleError: no design keeps the limits; names the best value there is.
    """
    if choice == "knee":
        return front.knee()
    if "<" in choice or ">" in choice:
        objectives = [column for column in front.columns if column.objective]
        if not objectives:
            raise ConfigError(f"--pick {choice}: the run has no objective to be best in")
        quality = next((c for c in objectives if c.direction == "max"), objectives[0])
        return front.best(quality.name, limits=choice.split(","))
    found = [row for row, arch_id in enumerate(front.ids) if arch_id.startswith(choice)]
    if len(found) != 1:
        many = "no design" if not found else f"{len(found)} designs"
        shown = ", ".join(front.ids[:_SHOWN])
        rest = f" and {len(front) - _SHOWN} more" if len(front) > _SHOWN else ""
        raise ArchError(
            f"--pick {choice}: {many} of the front has an id that begins so; expected knee, a "
            f"limit such as 'latency<=20', or one of {shown}{rest}"
        )
    return front[found[0]]
