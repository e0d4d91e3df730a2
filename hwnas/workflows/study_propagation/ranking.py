"""Which projections quantization disturbs most, and whether that speaks for freezing o and v.

Source: KD-QAT with ov-freeze (arXiv 2403.18159), of which a secondary summary was at hand: o and v
have the largest gradient norms of q, k, v and o and are the most fragile at few bits, hence frozen.
Both claims are put to the test here, sample by sample. A third rule is the specification's of this
project: freeze what has a ratio of gradient norms, quantized to floating point, beyond twice the
median. None of them is a training; what a freeze is worth, a training says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t

from hwnas.supernet.propagation import PROJECTIONS

__all__ = ["Claim", "ProjectionRow", "Verdict", "cell_statistics", "judge", "rank_projections"]

_ATTENTION, _FROZEN = ("q", "k", "v", "o"), ("o", "v")
_SURE = 0.975  # quantile of Student's t
_BEYOND = 2.0  # times the median ratio
Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ProjectionRow:
    """One projection at some bits: means over samples, of means over blocks, and deviations.

    The mean over blocks is geometric for ratios. `rank` 1 has the largest `error` of the weight's
    gradient, |g - g'| / |g'|. `pooled` is the same with the gradients of all blocks as one vector,
    in which blocks with hardly any gradient count for little. Figures are None where no block has
    them, deviations with one sample.
    """

    projection: str
    rank: int
    figures: Mapping[str, float | None]
    deviations: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Claim:
    """Whether o and v stand above q and k in something.

    `margin` is the mean over samples of log2 of sqrt(o v) / sqrt(q k), each a figure of all blocks,
    `error` its standard error, `share` of the samples where o and v are the two largest. `holds`
    is None where zero is in the margin's 95 % interval (Student's t), or there is one sample.
    """

    name: str
    margin: float | None
    error: float | None
    share: float | None
    holds: bool | None
    words: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the samples of some bits say.

    `supported` is None unless the errors of gradients say the same as a mean over blocks and
    pooled; `beyond` are the projections beyond twice the median ratio of norms.
    """

    bits: str
    loss: str
    claims: tuple[Claim, ...]
    beyond: tuple[str, ...]
    supported: bool | None
    sentence: str


def cell_statistics(samples: Sequence[Record]) -> list[dict[str, Any]]:
    """Mean and deviation over samples of every figure of each block and projection."""
    rows = []
    for number, first in enumerate(samples[0]["cells"]):
        names = [name for name in first if name not in ("block", "projection")]
        row: dict[str, Any] = {"block": first["block"], "projection": first["projection"]}
        for name in names:
            mean, deviation = _spread([sample["cells"][number][name] for sample in samples])
            row |= {name: mean, f"{name}.sd": deviation}
        rows.append(row)
    return rows


def rank_projections(samples: Sequence[Record], loss: str) -> list[ProjectionRow]:
    """The projections at some bits, the most disturbed first."""
    names = [f"{loss}.{kind}.{figure}" for kind in ("weight", "output")
             for figure in ("norm", "ratio", "cosine", "error")]  # fmt: skip
    names += [
        f"{loss}.weight.pooled",
        f"{loss}.output.pooled",
        "activation_ratio",
        "output_sqnr",
        "input_sqnr",
        "weight_sqnr",
    ]
    told = {
        projection: {
            name.removeprefix(f"{loss}."): _spread([_blocks(s, projection, name) for s in samples])
            for name in names
        }
        for projection in PROJECTIONS
        if any(cell["projection"] == projection for cell in samples[0]["cells"])
    }
    order = sorted(told, key=lambda one: -(told[one]["weight.error"][0] or 0.0))
    return [
        ProjectionRow(
            one, order.index(one) + 1,
            {name: mean for name, (mean, _) in told[one].items()},
            {name: deviation for name, (_, deviation) in told[one].items()},
        )
        for one in order
    ]  # fmt: skip


def judge(samples: Sequence[Record], bits: str, loss: str) -> Verdict:
    """Whether the gradients speak for freezing o and v."""
    rows = rank_projections(samples, loss)
    norm, error, pooled = (
        _claim(name, samples, f"{loss}.weight.{figure}")
        for name, figure in (
            ("gradient norm", "norm"), ("gradient error", "error"), ("pooled error", "pooled")
        )
    )  # fmt: skip
    ratios = {row.projection: row.figures["weight.ratio"] for row in rows}
    known = [value for value in ratios.values() if value is not None]
    median = float(np.median(known)) if known else math.nan
    beyond = tuple(
        name for name, value in ratios.items() if value is not None and value > _BEYOND * median
    )
    supported = error.holds if error.holds == pooled.holds else None
    first = ", ".join(f"{row.projection} {_told(row.figures['weight.error'])}" for row in rows)
    said = {True: "supports", False: "does not support", None: "does not decide on"}[supported]
    rule = (
        f"beyond twice the median ratio of norms ({_told(median)}): {', '.join(beyond)}" if beyond
        else f"no ratio of norms is beyond twice the median ({_told(median)})"
    )  # fmt: skip
    sentence = (
        f"{bits}, loss {loss}: {said} freezing o and v. Errors of weight gradients, largest "
        f"first: {first}. {error.words}; {pooled.words}; {norm.words}; {rule}."
    )
    return Verdict(bits, loss, (norm, error, pooled), beyond, supported, sentence)


def _claim(name: str, samples: Sequence[Record], figure: str) -> Claim:
    margins, first = [], 0
    for sample in samples:
        told = {one: _blocks(sample, one, figure) for one in _ATTENTION}
        known = {one: math.log2(value) for one, value in told.items() if value}
        if len(known) < len(_ATTENTION):
            continue
        frozen = [known.pop(one) for one in _FROZEN]
        margins.append(float(np.mean(frozen) - np.mean(list(known.values()))))
        first += min(frozen) > max(known.values())
    if not margins:
        return Claim(name, None, None, None, None, f"no {name} of q, k, v and o to compare")
    mean, n = float(np.mean(margins)), len(margins)
    words = f"{name} of o and v {2**mean:.3g} times that of q and k"
    both = f"the two largest in {first} of {n} batches"
    if n == 1:
        return Claim(name, mean, None, first / n, None, f"{words}, {both}")
    error = float(np.std(margins, ddof=1) / math.sqrt(n))
    reach = float(t.ppf(_SURE, n - 1)) * error
    holds = mean > 0 if abs(mean) > reach else None
    ends = f"{2 ** (mean - reach):.3g} to {2 ** (mean + reach):.3g}"
    return Claim(name, mean, error, first / n, holds, f"{words} ({ends}), {both}")


def _blocks(sample: Record, projection: str, figure: str) -> float | None:
    """The figure of all blocks of a sample: their mean, geometric for ratios, or pooled."""
    cells = [cell for cell in sample["cells"] if cell["projection"] == projection]
    if figure.endswith(".pooled"):
        return _pooled(cells, figure.removesuffix(".pooled"))
    known = [cell[figure] for cell in cells if cell[figure] is not None]
    if not known:
        return None
    if figure.endswith("ratio"):
        return math.exp(float(np.mean(np.log(known)))) if min(known) > 0 else None
    return float(np.mean(known))


def _pooled(cells: Sequence[Record], kind: str) -> float | None:
    """|g - g'| / |g'| of the gradients of all blocks as one vector."""
    known = [cell for cell in cells if cell[f"{kind}.ratio"]]
    before = [cell[f"{kind}.norm"] / cell[f"{kind}.ratio"] for cell in known]
    away = [cell[f"{kind}.error"] * norm for cell, norm in zip(known, before, strict=True)]
    return math.hypot(*away) / math.hypot(*before) if known else None


def _spread(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    known = [value for value in values if value is not None]
    if not known:
        return None, None
    return float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None


def _told(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3g}"
