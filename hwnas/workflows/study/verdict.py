"""From measured slices to efficiencies, and which values a smaller space should keep.

Source: section 9 of the project's specification of the mixed-precision supernet, its own proposal.
Two rules are ours: `max_loss`, and what single changes of a layer say about that layer's bits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hwnas.space import Scalar
from hwnas.workflows.study.measure import Measured
from hwnas.workflows.study.slices import Slice

__all__ = ["MIN_HALVINGS", "Point", "best_axis", "judged", "pair_gain", "point_of", "with_steps"]

MIN_HALVINGS = 0.2
"""Savings below this (13 %) say too little about an axis to rank it by them."""


@dataclass(frozen=True)
class Point:
    """One axis at one value, all else at its largest; None where it was not measured.

    Quality is in IoU, losses are in points (0.01 IoU) against the largest network; `halvings` is
    log2(C_max / C), `eta` the points lost per halving, `step_eta` the same from the value before.
    `front_gap` is by how many points the best network of any axis at no more BitOPs is better.
    `pair` is the best other axis and `pair_gain` by how many points this value together with it
    is better than any axis alone at equal BitOPs.
    """

    axis: str
    operator: str
    label: str
    value: Scalar
    arch_id: str
    gbitops: float
    system_gbitops: float
    halvings: float
    forced: tuple[str, ...] = ()
    iou: float | None = None
    error: float | None = None
    loss: float | None = None
    loss_error: float | None = None
    eta: float | None = None
    eta_error: float | None = None
    step_eta: float | None = None
    float_loss: float | None = None
    context_loss: float | None = None
    context_error: float | None = None
    front_gap: float | None = None
    pair: str | None = None
    pair_gain: float | None = None
    kept: bool | None = None
    why: str = ""


def point_of(here: Slice, top: Slice, own: Measured | None, best: Measured | None) -> Point:
    """The point of a slice, against the largest network `top`."""
    halvings = math.log2(top.bitops / here.bitops)
    point = Point(
        here.axis.name, here.axis.operator, here.axis.label, here.value, here.arch.id,
        here.bitops / 1e9, here.system_bitops / 1e9, halvings, here.forced,
    )  # fmt: skip
    if own is None or best is None:
        return point
    loss, error = best.loss(own)
    return replace(
        point,
        iou=own.iou,
        error=own.error,
        loss=loss,
        loss_error=error,
        eta=loss / halvings if halvings > 0 else None,
        eta_error=error / halvings if halvings > 0 and error is not None else None,
    )


def with_steps(points: Sequence[Point]) -> list[Point]:
    """Fill `step_eta`: values of an axis follow each other from large to small."""
    before: dict[str, tuple[float, float]] = {}
    out = []
    for point in points:
        if point.loss is not None:
            halvings, loss = before.get(point.axis, (0.0, 0.0))
            saved = point.halvings - halvings
            step = (point.loss - loss) / saved if saved > 0 else None
            point = replace(point, step_eta=step)  # noqa: PLW2901 - the point with one field more
            before[point.axis] = (point.halvings, point.loss or 0.0)
        out.append(point)
    return out


def best_axis(points: Sequence[Point], tolerance: float, *, without: str = "") -> str | None:
    """The axis that saves most at a loss of at most `tolerance` points, to pair others with.

    Where none does, that of the lowest eta. `without` is an operator left out.
    """
    others = [p for p in points if p.operator != without and p.eta is not None]
    cheap = [(-p.halvings, p.axis) for p in others if p.loss is not None and p.loss <= tolerance]
    ranked = [(p.eta, p.axis) for p in others if p.eta is not None and p.halvings >= MIN_HALVINGS]
    return min(cheap or ranked, default=(0.0, None))[1]


def pair_gain(gbitops: float, iou: float, alone: Sequence[tuple[float, float]]) -> float | None:
    """Points by which a pair is better than every axis alone at equal BitOPs.

    `alone` are (GBitOPs, IoU) of all axes, the largest network included; between the points of
    their Pareto front IoU is taken as linear in log BitOPs. (Against the other axis of the pair
    alone, as the specification says, any partner wins whose own next value is bad.) Below the
    cheapest point the pair counts only if it is better than that one at fewer BitOPs; None where
    the two cannot be compared.
    """
    front: list[tuple[float, float]] = []
    for point in sorted(alone, key=lambda p: (p[0], -p[1])):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    if gbitops <= front[0][0]:
        gain = 100 * (iou - front[0][1])
        return gain if gain > 0 else None
    for (low, worse), (high, better) in itertools.pairwise(front):
        if low <= gbitops <= high:
            share = math.log(gbitops / low) / math.log(high / low)
            return 100 * (iou - (worse + share * (better - worse)))
    return 100 * (iou - front[-1][1])


def front_gaps(points: Sequence[Point], best: Measured) -> list[float | None]:
    """For each point, how far below the Pareto front of all points it is, in points."""
    measured = [(p.gbitops, p.iou) for p in points if p.iou is not None]
    gaps: list[float | None] = []
    for point in points:
        if point.iou is None:
            gaps.append(None)
            continue
        rivals = [iou for gbitops, iou in measured if gbitops <= point.gbitops]
        rivals += [best.iou] if point.halvings <= 0 else []
        gaps.append(100 * (max(rivals) - point.iou))
    return gaps


def judged(
    points: Sequence[Point], best: Measured, *, tolerance: float, max_loss: float
) -> list[Point]:
    """Say which values are kept, before or after pairs were tried, and why.

    Kept: at most `tolerance` points below the front of all axes, or better in a pair than every
    axis alone; and not more than `max_loss` points below the largest network.
    """
    return [
        _judge(replace(point, front_gap=gap), tolerance, max_loss)
        for point, gap in zip(points, front_gaps(points, best), strict=True)
    ]


def _judge(point: Point, tolerance: float, max_loss: float) -> Point:
    if point.front_gap is None or point.loss is None:
        return point
    if point.loss > max_loss:
        return replace(point, kept=False, why=f"loses more than {max_loss:g} points alone")
    if point.front_gap <= tolerance:
        where = "on the front" if point.front_gap == 0 else f"{point.front_gap:.1f} below the front"
        return replace(point, kept=True, why=where)
    gap = f"{point.front_gap:.1f} below the front"
    if point.pair_gain is not None and point.pair_gain > 0:
        why = f"{gap}, but {point.pair_gain:.1f} above it together with {point.pair}"
        return replace(point, kept=True, why=why)
    return replace(point, kept=False, why=gap)
