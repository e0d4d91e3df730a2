"""Asking cost models about the subnets of a study, once each, and remembering the answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import check_values
from hwnas.errors import CostError, HwnasError, RunError
from hwnas.space import Archs
from hwnas.workflows.study_log import differences
from hwnas.workflows.study_proxies.costs import Judged
from hwnas.workflows.watch import Watch

__all__ = ["Answers", "Memory", "Scores", "ask_all"]

Float = NDArray[np.float64]
_PATIENCE = 2.0  # seconds of work that a kill may lose
_MOST = 256


class Answers(Protocol):
    """Records by key: a `StudyLog`, or `Memory` where nothing is written."""

    def __contains__(self, key: str) -> bool: ...

    def __getitem__(self, key: str) -> Mapping[str, Any]: ...

    def add(self, key: str, record: Mapping[str, Any]) -> None:
        """Remember one record."""
        ...


class Memory(dict[str, Mapping[str, Any]]):
    """Records that are forgotten with the process."""

    def add(self, key: str, record: Mapping[str, Any]) -> None:
        """Remember one record."""
        self[key] = dict(record)


@dataclass(frozen=True, eq=False)
class Scores:
    """Values of a cost model (n,) in its own unit, and the seconds that an arch took (median)."""

    values: Float
    seconds: float


def _unknown(judged: Judged, archs: Archs, answers: Answers) -> int:
    """How many archs are still to be asked about."""
    return sum(_key(judged, arch_id) not in answers for arch_id in archs.ids)


def _ask(judged: Judged, archs: Archs, answers: Answers, tick: Callable[[int], None]) -> Scores:
    """Values of all archs; what `answers` hold is not evaluated again.

    Archs are evaluated in batches that take a few seconds; `tick` is told how many were new.

    Raises:
        CostError: an arch cannot be priced, or the model breaks its contract.
        RunError: the answers were begun with other options, weights or images of this model.
    """
    _check_fingerprint(judged, answers)
    left = [i for i, name in enumerate(archs.ids) if _key(judged, name) not in answers]
    size = 1
    while left:
        batch, left = archs.take(left[:size]), left[size:]
        start = time.perf_counter()
        values = check_values(judged.model, batch, judged.model.evaluate(batch))
        seconds = (time.perf_counter() - start) / len(batch)
        for arch_id, value in zip(batch.ids, values.tolist(), strict=True):
            answers.add(_key(judged, arch_id), {"value": value, "seconds": seconds})
        tick(len(batch))
        # the first one may load weights, so a slow batch shrinks no further than by half
        room = int(np.clip(_PATIENCE / max(seconds, 1e-9), max(size // 2, 1), _MOST))
        size = min(2 * size, room)
    records = [answers[_key(judged, name)] for name in archs.ids]
    return Scores(
        np.array([record["value"] for record in records], dtype=np.float64),
        float(np.median([record["seconds"] for record in records])),
    )


def _key(judged: Judged, arch_id: str) -> str:
    return f"score/{judged.name}/{arch_id}"


def _check_fingerprint(judged: Judged, answers: Answers) -> None:
    key = f"model/{judged.name}"
    if key not in answers:
        answers.add(key, judged.fingerprint)
        return
    differ = differences(answers[key], judged.fingerprint)
    if differ:
        raise RunError(
            f"{judged.name} was asked before with something else, and its values would be mixed; "
            f"give it another name as OTHER={judged.spec}, or choose another folder with --out:\n"
            "  " + "\n  ".join(differ)
        )


def ask_all(
    judged: Sequence[Judged], archs: Archs, answers: Answers, watch: Watch
) -> tuple[dict[str, Scores], dict[str, str]]:
    """Scores by name, and the reasons of those that failed: a bad plug-in hurts only itself.

    Raises:
        CostError: all of them failed.
        RunError: the answers were begun with other options, weights or images.
    """
    scores: dict[str, Scores] = {}
    failed: dict[str, str] = {}
    for one in judged:
        try:
            scores[one.name] = _ask_one(one, archs, answers, watch)
        except RunError:
            raise
        except Exception as error:
            failed[one.name] = _reason(error)
    if failed and not scores:
        raise CostError("\n".join(f"{name}: {reason}" for name, reason in failed.items()))
    return scores, failed


def _ask_one(one: Judged, archs: Archs, answers: Answers, watch: Watch) -> Scores:
    left = _unknown(one, archs, answers)
    if left:
        watch.begin(one.name, left)
    done = 0

    def tick(new: int) -> None:
        nonlocal done
        done += new
        watch.advance(done)

    return _ask(one, archs, answers, tick)


def _reason(error: Exception) -> str:
    kind = "" if isinstance(error, HwnasError) else f"{type(error).__name__}: "
    return f"{kind}{error}"
