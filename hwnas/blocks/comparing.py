"""How well the scores of a library order networks that were stitched together and run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwnas.blocks.library import Library, NetworkRecord
from hwnas.blocks.options import option_of
from hwnas.blocks.scoring import SCORES, Score, block_values, fit_ridge
from hwnas.calibration import kendall_tau, spearman_rho
from hwnas.errors import CostError

__all__ = ["BlockScores", "ScoreRow", "compare_scores"]

_FEWEST = 3


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One score, or one baseline, against what the networks really do.

    `tau` and `rho` are Kendall's and Spearman's correlations with the noise of the embedding,
    `tau_iou` with the measured IoU; positive where the score orders networks rightly.
    """

    score: str
    tau: float | None
    rho: float | None
    tau_iou: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class BlockScores:
    """The comparison over `networks` stitched networks.

    `block_seconds` is what the blocks took to train and measure, `network_seconds` what one
    stitched network takes to run.
    """

    rows: tuple[ScoreRow, ...]
    networks: int
    block_seconds: float
    network_seconds: float | None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        rows = [{name: getattr(row, name) for name in ScoreRow.__slots__} for row in self.rows]
        return {
            "rows": rows, "networks": self.networks, "block_seconds": self.block_seconds,
            "network_seconds": self.network_seconds,
        }  # fmt: skip


def compare_scores(library: Library, trial: str) -> BlockScores:
    """Compare every score that a library allows with the networks of a trial, and three counts.

    Raises:
        CostError: fewer than three networks were run.
    """
    records = [
        record for record in library.networks_of(trial)
        if all((slot, block) in library.blocks for slot, block in enumerate(record.blocks))
    ]  # fmt: skip
    if len(records) < _FEWEST:
        raise CostError(
            f"{library.path}: {len(records)} stitched networks, and an order of three or more is "
            "compared; run some with --networks"
        )
    rows = [_row(library, score, records) for score in SCORES]
    rows += [
        _judged(f"fewer {name}", [-count(library, r) for r in records], records)
        for name, count in _COUNTS.items()
    ]
    seconds = [record.seconds for record in records]
    return BlockScores(
        tuple(rows), len(records), library.seconds,
        float(np.median(seconds)),
    )  # fmt: skip


def _row(library: Library, score: Score, records: Sequence[NetworkRecord]) -> ScoreRow:
    try:
        values = block_values(library, score)
    except CostError as error:
        return ScoreRow(score, None, None, None, note=str(error))
    sums = [sum(values[slot, b] for slot, b in enumerate(r.blocks)) for r in records]
    if score != "ridge":
        return _judged(score, sums, records)
    ridge = fit_ridge(library)
    return ScoreRow(
        score, ridge.tau, None, None,
        note=f"each network left out once; weights {[round(float(w), 3) for w in ridge.weights]}",
    )  # fmt: skip


def _judged(name: str, scores: Sequence[float], records: Sequence[NetworkRecord]) -> ScoreRow:
    noise = [record.nsr for record in records]
    ious = [
        (-record.iou, s)
        for record, s in zip(records, scores, strict=True)
        if record.iou is not None
    ]
    of_iou = kendall_tau(*zip(*ious, strict=True)) if len(ious) > 2 else None
    return ScoreRow(name, kendall_tau(noise, scores), spearman_rho(noise, scores), of_iou)


def _total(field: str) -> Callable[[Library, NetworkRecord], float]:
    def count(library: Library, record: NetworkRecord) -> float:
        parts = (library.blocks[slot, b] for slot, b in enumerate(record.blocks))
        return float(sum(getattr(part, field) for part in parts))

    return count


def _depth(library: Library, record: NetworkRecord) -> float:
    del library
    return float(sum(option_of(block).depth for block in record.blocks))


_COUNTS: Mapping[str, Callable[[Library, NetworkRecord], float]] = {
    "parameters": _total("params"),
    "MACs": _total("macs"),
    "blocks": _depth,
}
