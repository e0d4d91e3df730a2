"""What it takes to exchange one adapter for another in a model that is deployed."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from hwnas.adapters.exchange_cost import ExchangeCost, ExchangeSpec, measure_exchanges
from hwnas.errors import CheckpointError, ConfigError
from hwnas.quant.bits import require_bits
from hwnas.supernet.checkpoint import load_sam
from hwnas.supernet.sam_model import build_sam
from hwnas.workload.sam_geometry import GEOMETRIES, SamGeometry

__all__ = ["bench_switching"]

_MIB = 1 << 20
Row = dict[str, object]


def bench_switching(
    base: str | SamGeometry = "sam-vit-t",
    *,
    densities: Sequence[float] = (0.01, 0.02),
    rank: int = 8,
    bits: Sequence[int] = (8, 4),
    rounds: int = 20,
    seed: int = 0,
) -> list[Row]:
    """Exchange SHiRA by sparse writes and LoRA by adding it, on the image encoder's linear layers.

    The same for weights in float32 and for codes of `bits` on fixed grids (int8 each), whose new
    values for a LoRA are computed from the weights, or shipped. `base` is a checkpoint or a model
    of `GEOMETRIES`; one that is not shipped has random weights, as has a geometry. All ways take
    turns in one thread, after a round that is not timed.

    A row is one way. `ms` is the median processor time, which other programs do not add to, of
    taking one adapter out and putting another in; ratios are to the first row with the same `bits`,
    within a round. `shipped` is one adapter, `written` what it changes of the model, `kept` what
    the device must hold to take it out again. `left over` is the largest deviation from the base
    after that, of weights or in steps of codes.

    Raises:
        ConfigError: no rounds or adapters, or options that do not exist.
        CheckpointError: the base cannot be loaded.
    """
    if rounds < 1 or not densities or len(set(densities)) < len(densities):
        raise ConfigError(
            f"{rounds} rounds of densities {list(densities)}; expected at least one of each, and "
            "no density twice"
        )
    widths = tuple(require_bits(width) for width in bits)
    spec = ExchangeSpec(
        tuple(densities), rank, widths, rounds=rounds, seed=seed
    )  # fmt: skip
    costs = measure_exchanges(_opened(base), spec)
    first = {cost.bits: cost for cost in reversed(costs)}
    return [_row(cost, first[cost.bits]) for cost in costs]


def _opened(base: str | SamGeometry) -> Any:
    if isinstance(base, SamGeometry):
        return build_sam(base)
    try:
        return load_sam(base)
    except CheckpointError:
        if base not in GEOMETRIES:
            raise
        return build_sam(GEOMETRIES[base])


def _row(cost: ExchangeCost, first: ExchangeCost) -> Row:
    ratios = [own / other for own, other in zip(cost.seconds, first.seconds, strict=True)]
    ms = [1e3 * seconds for seconds in cost.seconds]
    return {
        "bits": cost.bits,
        "adapter": cost.adapter,
        "way": cost.way,
        "ms": median(ms),
        "ms, range": f"{min(ms):.3g} to {max(ms):.3g}",
        "time, ratio": median(ratios),
        "ratio, range": f"{min(ratios):.2g} to {max(ratios):.2g}",
        "shipped MiB": cost.shipped_bytes / _MIB,
        "written MiB": cost.written_bytes / _MIB,
        "kept MiB": cost.kept_bytes / _MIB,
        "left over": cost.left_over,
    }
