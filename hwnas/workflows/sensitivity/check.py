"""Sensitivities against measured losses: single groups replaced, and plans around an optimum.

Source: the project's specification of cost models, section 9.3. The groups with the largest error
at their lowest options are lowered one at a time in the largest network; the median ratio of what
that costs to what was predicted is the scale of all errors. Then random plans around the exact
optimum at a middle budget are evaluated, which says how far the sum keeps the order where errors
meet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hwnas.calibration import kendall_tau, spearman_rho
from hwnas.calibration.bootstrap import draw_rows, percentile_interval, spearman_of_draws
from hwnas.cost import CostContext, CostModel
from hwnas.cost.proxies import Counts
from hwnas.cost.remembering import Records
from hwnas.space import Archs
from hwnas.workflows.sensitivity.networks import lowered_groups, middle_optimum, plans_around
from hwnas.workflows.watch import Watch

__all__ = ["GroupLoss", "PlanRank", "SensitivityCheck", "check_sensitivity"]

Float = NDArray[np.float64]
_DRAWS = 1000


@dataclass(frozen=True)
class GroupLoss:
    """One group at its lowest options, all else at the largest: predicted and measured increase."""

    group: str
    predicted: float
    measured: float


@dataclass(frozen=True)
class PlanRank:
    """How a cost orders the plans: 1 where the measured loss rises with it (or falls, of counts).

    `lo` and `hi` are a 95 % bootstrap interval over plans of Spearman's rho. All are None where
    the cost is the same for every plan.
    """

    spearman: float | None
    kendall: float | None
    lo: float | None = None
    hi: float | None = None


@dataclass(frozen=True)
class SensitivityCheck:
    """What was measured.

    Attributes:
        against: The cost that was measured, in `unit`; losses are how much worse it gets.
        groups: The groups with the largest errors, most first.
        order: How the errors order the losses of these groups.
        scale: Median of measured over predicted; None where that is not positive.
        budget: BitOPs within which the optimum was solved.
        sums: Sum of errors of each plan, (n,), the optimum first.
        losses: Measured loss of each plan against the largest network, (n,).
        ranks: By cost: the sum of errors, and what counts say of the same plans.
    """

    against: str
    unit: str
    groups: tuple[GroupLoss, ...]
    order: PlanRank
    scale: float | None
    budget: float
    sums: tuple[float, ...]
    losses: tuple[float, ...]
    ranks: Mapping[str, PlanRank] = field(default_factory=dict)

    def sentences(self, name: str) -> list[str]:
        """What a reader must not miss; `name` is that of the sensitivities."""
        own = self.ranks[name]
        others = ", ".join(f"{n} {_said(r)}" for n, r in self.ranks.items() if n != name)
        found = [
            f"{len(self.groups)} groups were lowered one at a time: Spearman {_said(self.order)} "
            f"between error and loss of {self.against}",
            f"{len(self.sums)} plans around the optimum: Spearman {_said(own)} between the sum of "
            f"errors and the loss; beside it {others}",
        ]
        if self.scale is None:
            found.append(
                f"no scale: the median group makes {self.against} no worse, so the errors are "
                "not in its unit"
            )
        else:
            found.append(
                f"scale: an error of 1 is {self.scale:.4g} {self.unit} of loss in {self.against} "
                "(median over these groups)"
            )
        least = -1.0 if own.spearman is None else own.spearman
        better = [n for n, r in self.ranks.items() if r.spearman is not None and r.spearman > least]
        if better:
            found.append(f"{', '.join(better)} order these plans better than the sensitivities do")
        return found


def check_sensitivity(
    context: CostContext, model: CostModel, truth: CostModel, bitops: CostModel, *,
    top: float, plans: int, records: Records, watch: Watch,
) -> SensitivityCheck:  # fmt: skip
    """Measure the groups and the plans.

    Args:
        context: Of the space that all three are of.
        model: Gives `matrices`.
        truth: What is measured.
        bitops: Bounds the plans.
        top: Share of the groups that are measured.
        plans: How many, the optimum included.
        records: Keep the optimum.
        watch: Told where it stands.

    Raises:
        CostError: the model has no matrices, no group can be lowered, or a cost is no sum.
    """
    space = context.space
    lowered = lowered_groups(space, model, top)
    optimum, budget = middle_optimum(space, model, bitops, records, watch)
    around = plans_around(space, optimum, plans, context.seed)
    everything = Archs.of(space, [space.largest(), *lowered.values(), *around])
    signed = 1.0 if truth.direction == "min" else -1.0
    measured = signed * _one_by_one(truth, everything, watch)
    losses, sums = measured - measured[0], model.evaluate(everything)
    split = 1 + len(lowered)
    groups = tuple(
        GroupLoss(name, float(sums[i] - sums[0]), float(losses[i]))
        for i, name in enumerate(lowered, start=1)
    )
    costs = {
        model.name: sums[split:],
        bitops.name: -bitops.evaluate(around),
        **{name: -count for name, count in Counts(context).of(around).items()},
    }
    return SensitivityCheck(
        truth.name, truth.unit, groups,
        _rank([g.measured for g in groups], [g.predicted for g in groups]), _scale(groups),
        budget, tuple(sums[split:].tolist()), tuple(losses[split:].tolist()),
        {name: _rank(losses[split:], values) for name, values in costs.items()},
    )  # fmt: skip


def _one_by_one(truth: CostModel, archs: Archs, watch: Watch) -> Float:
    watch.begin(f"measuring {truth.name}", len(archs))
    found = []
    for row in range(len(archs)):
        found.append(float(truth.evaluate(archs[row : row + 1])[0]))
        watch.advance(row + 1)
    return np.array(found)


def _scale(groups: Sequence[GroupLoss]) -> float | None:
    ratios = [group.measured / group.predicted for group in groups if group.predicted > 0]
    median = float(np.median(ratios)) if ratios else 0.0
    return median if median > 0 else None


def _rank(losses: Sequence[float] | Float, values: Sequence[float] | Float) -> PlanRank:
    rho = spearman_rho(losses, values)
    if rho is None:
        return PlanRank(None, None)
    rows = draw_rows(len(losses), _DRAWS, np.random.default_rng(0))
    lo, hi = percentile_interval(spearman_of_draws(losses, values, rows)) or (None, None)
    return PlanRank(rho, kendall_tau(losses, values), lo, hi)


def _said(rank: PlanRank) -> str:
    if rank.spearman is None:
        return "n/a"
    ends = "" if rank.lo is None else f" [{rank.lo:.2f}, {rank.hi:.2f}]"
    return f"{rank.spearman:.2f}{ends}"
