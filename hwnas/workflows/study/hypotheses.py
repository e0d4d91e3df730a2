"""What the literature expects of a vision foundation model's search space, asked of the figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hwnas.workflows.study.layers import LayerNoise, medians_over_blocks
from hwnas.workflows.study.verdict import MIN_HALVINGS, Point

__all__ = ["Hypothesis", "hypotheses"]

Verdict = Literal["holds", "holds in part", "does not hold", "not answered"]
_CHEAP, _DEAR = ("bit-width", "resolution"), ("width", "depth")
_EXPECTED_INPUTS = {"lin2.a", "proj.a"}


@dataclass(frozen=True)
class Hypothesis:
    """A sentence, the verdict of this study's own figures, and these figures."""

    sentence: str
    verdict: Verdict
    answer: str
    figures: dict[str, Any]


def hypotheses(points: Sequence[Point], layers: Sequence[LayerNoise]) -> list[Hypothesis]:
    """Answer each hypothesis of section 9 of the specification from what was measured."""
    return [_cheapest(points), _dearest(points), _inputs(layers), _global(layers)]


def _best_etas(points: Sequence[Point]) -> dict[str, Point]:
    """For each operator its value with the lowest eta, from low to high."""
    best: dict[str, Point] = {}
    for p in points:
        if p.eta is None or p.halvings < MIN_HALVINGS:
            continue
        rival = best.get(p.operator)
        if rival is None or rival.eta is None or p.eta < rival.eta:
            best[p.operator] = p
    return dict(sorted(best.items(), key=lambda item: item[1].eta or 0.0))


def _eta_words(best: dict[str, Point]) -> tuple[str, dict[str, Any]]:
    words = [
        f"{name} {p.eta:.2f}{'' if p.eta_error is None else f' ± {p.eta_error:.2f}'} "
        f"(at {p.axis} {p.value})"
        for name, p in best.items()
    ]
    figures = {
        name: {"eta": p.eta, "error": p.eta_error, "axis": p.axis, "value": p.value}
        for name, p in best.items()
    }
    return ", ".join(words), figures


def _doubt(best: dict[str, Point], place: int) -> str:
    """A remark where the operators on both sides of a place in the ranking are too close."""
    names = list(best)
    one, other = best[names[place - 1]], best[names[place]]
    if one.eta_error is None or other.eta_error is None:
        return "; one image, so there are no errors to judge the order by"
    gap = (other.eta or 0.0) - (one.eta or 0.0)
    if gap > 2 * math.hypot(one.eta_error, other.eta_error):
        return ""
    return f"; {names[place - 1]} and {names[place]} are within two standard errors of each other"


def _cheapest(points: Sequence[Point]) -> Hypothesis:
    sentence = "bit-width and resolution lose the fewest points per halving"
    best = _best_etas(points)
    if not {*_CHEAP} <= best.keys() or len(best) < 3:
        return Hypothesis(sentence, "not answered", "bits, resolution and a rival are needed", {})
    words, figures = _eta_words(best)
    first = set(list(best)[:2])
    hits = len(first & set(_CHEAP))
    verdict: Verdict = ("does not hold", "holds in part", "holds")[hits]
    answer = f"points per halving, best value: {words}{_doubt(best, 2)}"
    return Hypothesis(sentence, verdict, answer, figures)


def _dearest(points: Sequence[Point]) -> Hypothesis:
    sentence = "width and depth of a frozen foundation model lose the most points per halving"
    best = _best_etas(points)
    if not {*_DEAR} <= best.keys() or len(best) < 3:
        return Hypothesis(sentence, "not answered", "width, depth and a rival are needed", {})
    words, figures = _eta_words(best)
    hits = len(set(list(best)[-2:]) & set(_DEAR))
    verdict: Verdict = ("does not hold", "holds in part", "holds")[hits]
    answer = f"points per halving, best value: {words}{_doubt(best, len(best) - 2)}"
    return Hypothesis(sentence, verdict, answer, figures)


def _inputs(layers: Sequence[LayerNoise]) -> Hypothesis:
    sentence = "inputs of lin2 and proj are the activations most sensitive to bits"
    found = medians_over_blocks(
        list(layers), lambda r: r.operand if r.operand.endswith(".a") else None
    )
    if not found:
        return Hypothesis(sentence, "not answered", "no single changes were measured", {})
    hits = [
        bits
        for bits, kinds in found.items()
        if set(sorted(kinds, key=lambda k: kinds[k], reverse=True)[:2]) == _EXPECTED_INPUTS
    ]
    return Hypothesis(
        sentence,
        _share(len(hits), len(found)),
        "added noise, median over blocks: " + _noise_words(found),
        {str(bits): kinds for bits, kinds in found.items()},
    )


def _global(layers: Sequence[LayerNoise]) -> Hypothesis:
    sentence = "global blocks tolerate fewer bits than windowed ones in linears, not in attention"

    def kind(row: LayerNoise) -> str:
        return f"{'attention' if row.operand == 'attn' else 'linears'}, {row.attends}"

    if len({row.attends for row in layers}) < 2:
        why = "there are not both global and windowed blocks among the single changes"
        return Hypothesis(sentence, "not answered", why, {})
    found = medians_over_blocks(list(layers), kind)
    asked = [
        (kinds[f"{what}, global"] < kinds[f"{what}, windowed"]) == (what == "linears")
        for kinds in found.values()
        for what in ("linears", "attention")
        if f"{what}, global" in kinds and f"{what}, windowed" in kinds
    ]
    return Hypothesis(
        sentence,
        _share(sum(asked), len(asked)),
        "added noise, median over blocks: " + _noise_words(found),
        {str(bits): kinds for bits, kinds in found.items()},
    )


def _share(hits: int, asked: int) -> Verdict:
    if hits == asked:
        return "holds"
    return "holds in part" if hits else "does not hold"


def _noise_words(found: dict[int, dict[str, float]]) -> str:
    parts = []
    for bits, kinds in found.items():
        ranked = sorted(kinds.items(), key=lambda item: -item[1])
        parts.append(f"{bits} bits: " + ", ".join(f"{name} {value:.3g}" for name, value in ranked))
    return "; ".join(parts)
