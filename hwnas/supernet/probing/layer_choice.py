"""Options that scores of probes share: which weights, how many, and which layers count."""

from __future__ import annotations

import re

from hwnas.errors import CostError
from hwnas.supernet.probing.probe import Probe, ProbedLayer

__all__ = ["choose_layers", "option_problems"]

_WEIGHTS = ("fresh", "inherited")


def choose_layers(probe: Probe, pattern: re.Pattern[str]) -> tuple[ProbedLayer, ...]:
    """The layers of a probe whose whole name matches.

    Raises:
        CostError: none does; the message shows some names.
    """
    chosen = tuple(layer for layer in probe.layers if pattern.fullmatch(layer.name))
    if not chosen:
        names = ", ".join(layer.name for layer in probe.layers[:6]) or "none"
        raise CostError(
            f"layers is {pattern.pattern!r}, which is the name of no layer; the network has "
            f"{len(probe.layers)}: {names}, …"
        )
    return chosen


def option_problems(
    *, weights: str = "fresh", seeds: int | None = None, batch_images: int = 1, layers: str = ".*"
) -> list[str]:
    """One sentence for each option that makes no sense."""
    problems = []
    if weights not in _WEIGHTS:
        problems.append(f"weights is {weights!r}, expected fresh or inherited")
    if seeds is not None and seeds < 1:
        problems.append(f"seeds is {seeds}, expected 1 or more")
    if seeds is not None and seeds > 1 and weights == "inherited":
        problems.append(f"seeds is {seeds}, but inherited weights are not drawn; leave it out")
    if batch_images < 1:
        problems.append(f"batch_images is {batch_images}, expected 1 or more")
    try:
        re.compile(layers)
    except re.error as error:
        problems.append(f"layers is {layers!r}, which is no regular expression: {error}")
    return problems
