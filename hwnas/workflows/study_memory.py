"""What a study has found out, kept as it is found out, so that a kill loses seconds of work.

With a folder the records are those of its `StudyLog`; without one they go with the process, and
studies need not know which of the two they have.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import CostModel, Direction, check_values
from hwnas.cost.remembering import Records, Remembering
from hwnas.errors import ConfigError, HwnasError, Interrupted
from hwnas.space import Arch, Archs, SearchSpace
from hwnas.workflows.study_log import StudyLog, refuse_existing

__all__ = ["Answer", "KeptCost", "Memory", "ask", "keep_inside", "open_records", "refuse_folder"]

Float = NDArray[np.float64]
Answer = Mapping[str, Any]
"""`value` of an arch, in the model's unit, and the `seconds` that it took."""
_PATIENCE = 2.0  # seconds of work that a kill may lose
_MOST = 256


class Memory(dict[str, Mapping[str, Any]]):
    """Records that are forgotten with the process."""

    def add(self, key: str, record: Mapping[str, Any]) -> None:
        """Keep one record."""
        self[key] = dict(record)


class _Part:
    """Some records under a prefix, for one of several that keep theirs in the same place."""

    def __init__(self, records: Records, prefix: str) -> None:
        self._records, self._prefix = records, prefix

    def __contains__(self, key: str) -> bool:
        return self._prefix + key in self._records

    def __getitem__(self, key: str) -> Mapping[str, Any]:
        return self._records[self._prefix + key]

    def add(self, key: str, record: Mapping[str, Any]) -> None:
        """Keep one record."""
        self._records.add(self._prefix + key, record)


def refuse_folder(out: str | Path | None, *, resume: bool) -> None:
    """Refuse before anything is loaded what `open_records` would refuse in the end.

    Raises:
        ConfigError: there is nothing to resume without a folder.
        RunError: the folder exists, and `resume` was not said.
    """
    if out is None and resume:
        raise ConfigError("--resume: expected the folder of the study that goes on, as --out DIR")
    if out is not None and not resume:
        refuse_existing(Path(out))


@contextmanager
def open_records(
    out: str | Path | None, settings: Callable[[], Mapping[str, Any]], *, resume: bool
) -> Iterator[Records]:
    """The records of a study: those of its folder, or some that are forgotten.

    Args:
        out: The folder; None keeps nothing.
        settings: What decides the values that are kept; not asked for without a folder.
        resume: Go on in a folder that is there.

    Raises:
        RunError: as for `StudyLog`. A study that is refused before it kept anything leaves no
            folder.
        Interrupted: Ctrl-C, with where what was measured is.
    """
    try:
        if out is None:
            yield Memory()
            return
        with StudyLog(Path(out), settings(), resume=resume) as log:
            try:
                yield log
            except Interrupted:
                raise
            except HwnasError:
                log.discard()
                raise
    except (KeyboardInterrupt, Interrupted) as error:
        kept = "" if out is None else f"; what was measured is in {out}: go on with --resume"
        raise Interrupted(f"interrupted{kept}") from error


def ask(
    model: CostModel, archs: Archs, records: Records, prefix: str,
    tick: Callable[[int], None] | None = None,
) -> list[Answer]:  # fmt: skip
    """One answer an arch; those that `records` hold under `prefix` + arch id are not asked for.

    Archs are evaluated in batches that take a few seconds; `tick` is told how many were new.

    Raises:
        CostError: an arch cannot be priced, or the model breaks its contract.
    """
    left = [i for i, name in enumerate(archs.ids) if prefix + name not in records]
    size = 1
    while left:
        batch, left = archs.take(left[:size]), left[size:]
        start = time.perf_counter()
        values = check_values(model, batch, model.evaluate(batch))
        seconds = (time.perf_counter() - start) / len(batch)
        for arch_id, value in zip(batch.ids, values.tolist(), strict=True):
            records.add(prefix + arch_id, {"value": value, "seconds": seconds})
        if tick is not None:
            tick(len(batch))
        # the first one may load weights, so a slow batch shrinks no further than by half
        room = int(np.clip(_PATIENCE / max(seconds, 1e-9), max(size // 2, 1), _MOST))
        size = min(2 * size, room)
    return [records[prefix + name] for name in archs.ids]


class KeptCost:
    """A cost model that is asked about each arch once, in this process or in an earlier one.

    Args:
        model: Answers.
        space: What archs are of.
        records: Keep the answers.
        label: What they are called there: `label` and the id of the arch.
    """

    def __init__(self, model: CostModel, space: SearchSpace, records: Records, label: str) -> None:
        self._model, self._space, self._records = model, space, records
        self._prefix = f"{label}/"
        self._new: set[str] = set()
        self._earlier: dict[str, float] = {}

    @property
    def name(self) -> str:
        """That of the model."""
        return self._model.name

    @property
    def unit(self) -> str:
        """That of the model."""
        return self._model.unit

    @property
    def direction(self) -> Direction:
        """That of the model."""
        return self._model.direction

    @property
    def seconds_before(self) -> float:
        """What the answers that were not asked for again took, when they were."""
        return sum(self._earlier.values())

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        """Return the values of the model, shape (n,)."""
        own = Archs.of(self._space, archs)
        for name in own.ids:
            if self._prefix + name not in self._records:
                self._new.add(name)
            elif name not in self._new:
                self._earlier[name] = self._records[self._prefix + name]["seconds"]
        found = ask(self._model, own, self._records, self._prefix)
        return np.array([answer["value"] for answer in found], dtype=np.float64)


def keep_inside(models: Mapping[str, CostModel], records: Records) -> None:
    """Give every model that measures inside a place to remember it: its `memory`, else its name."""
    for name, model in models.items():
        if isinstance(model, Remembering):
            place = getattr(model, "memory", name)
            model.remember_in(_Part(records, f"inside/{place}/"))
