"""What single changes of a layer's bits say: a matrix, and how kinds of layers compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.data.scores import mean_with_error
from hwnas.workflows.study.slices import SingleChange

__all__ = ["LayerNoise", "layer_noise", "medians_over_blocks", "tolerant"]


@dataclass(frozen=True)
class LayerNoise:
    """One layer's operand at fewer bits, everything else at its largest.

    `nsr` is the noise-to-signal ratio of the embedding that the change adds, `error` its standard
    error over images; `loss` the points of IoU that it costs, where measured. `attends` is
    "global" or "windowed".
    """

    gene: str
    block: int
    attends: str
    operand: str
    bits: int
    nsr: float
    error: float | None
    loss: float | None = None
    loss_error: float | None = None


def layer_noise(
    found: Mapping[SingleChange, NDArray[np.float64]], is_global: Callable[[int], bool]
) -> list[LayerNoise]:
    """One row a change, in the order of the changes."""
    rows = []
    for change, ratios in found.items():
        mean, error = mean_with_error(ratios.tolist())
        attends = "global" if is_global(change.block) else "windowed"
        rows.append(
            LayerNoise(
                change.gene, change.block, attends, change.operand, change.option, mean, error
            )
        )
    return rows


def medians_over_blocks(
    rows: list[LayerNoise], kind: Callable[[LayerNoise], str | None]
) -> dict[int, dict[str, float]]:
    """Median added noise by bit-width and kind; rows of kind None are left out."""
    gathered: dict[int, dict[str, list[float]]] = {}
    for row in rows:
        name = kind(row)
        if name is not None:
            gathered.setdefault(row.bits, {}).setdefault(name, []).append(row.nsr)
    return {
        bits: {name: float(np.median(values)) for name, values in kinds.items()}
        for bits, kinds in sorted(gathered.items(), reverse=True)
    }


def tolerant(rows: list[LayerNoise], kept: Mapping[str, set[int]]) -> set[tuple[str, int]]:
    """(gene, bits) that disturb the embedding no more than is usual at the fewest bits kept.

    Usual is the median over all layers of the same side (weights, inputs, attention) at the lowest
    bit-width that `kept` has for the gene; a side of which nothing below the largest is kept
    has no measure, and gives none.
    """
    by_side: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        by_side.setdefault((_side(row), row.bits), []).append(row.nsr)
    found = set()
    for row in rows:
        lowest = min(kept.get(row.gene, {0}))
        usual = by_side.get((_side(row), lowest))
        if usual and row.bits < lowest and row.nsr <= float(np.median(usual)):
            found.add((row.gene, row.bits))
    return found


def _side(row: LayerNoise) -> str:
    return row.operand.rpartition(".")[2]
