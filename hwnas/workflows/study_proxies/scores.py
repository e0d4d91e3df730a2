"""Asking cost models about the subnets of a study, once each, and remembering the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.cost.remembering import Records
from hwnas.errors import CostError, HwnasError, RunError
from hwnas.space import Archs
from hwnas.workflows.study_log import differences
from hwnas.workflows.study_memory import ask
from hwnas.workflows.study_proxies.costs import Judged
from hwnas.workflows.watch import Watch

__all__ = ["Scores", "ask_all"]

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scores:
    """Values of a cost model (n,) in its own unit, and the seconds that an arch took (median)."""

    values: Float
    seconds: float


def _unknown(judged: Judged, archs: Archs, answers: Records) -> int:
    """How many archs are still to be asked about."""
    return sum(_key(judged, arch_id) not in answers for arch_id in archs.ids)


def _ask(judged: Judged, archs: Archs, answers: Records, tick: Callable[[int], None]) -> Scores:
    """Values of all archs; what `answers` hold is not evaluated again.

    Raises:
        CostError: an arch cannot be priced, or the model breaks its contract.
        RunError: the answers were begun with other options, weights or images of this model.
    """
    _check_fingerprint(judged, answers)
    found = ask(judged.model, archs, answers, _key(judged, ""), tick)
    return Scores(
        np.array([one["value"] for one in found], dtype=np.float64),
        float(np.median([one["seconds"] for one in found])),
    )


def _key(judged: Judged, arch_id: str) -> str:
    return f"score/{judged.name}/{arch_id}"


def _check_fingerprint(judged: Judged, answers: Records) -> None:
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
    judged: Sequence[Judged], archs: Archs, answers: Records, watch: Watch
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


def _ask_one(one: Judged, archs: Archs, answers: Records, watch: Watch) -> Scores:
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
