"""A quantized model's signals beside those of the model in floating point, by projection.

Source: the analysis of KD-QAT (arXiv 2403.18159), of which a secondary summary was at hand: norms
of gradients and mean activations through q, k, v and o. Ratio, cosine and relative error of the
gradient, and the ratios of signal to noise, are added here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from hwnas.adapters import AdaptedLinear
from hwnas.quant.lsq import quantize_weight
from hwnas.supernet.propagation.projections import Projection
from hwnas.supernet.propagation.signals import Signals

__all__ = ["Figures", "compare", "decibels", "weight_sqnr"]

Figures = dict[str, float | None]
_DIGITS = 8  # significant ones that are kept


def compare(
    found: Signals, reference: Signals, projections: Sequence[Projection],
    weight_noise: Sequence[float | None],
) -> list[Figures]:  # fmt: skip
    """Figures of each projection; None where one is not defined, as the ratio to a norm of zero.

    For each loss and for `weight` and `output`, `LOSS.weight.…`: `norm`, Frobenius, of the gradient
    g; with g' of the reference `ratio` |g| / |g'|, `cosine`, `error` |g - g'| / |g'|. Without a
    loss: `activation`, mean of |y|, and `activation_ratio`; `output_sqnr`, how far outputs are from
    the reference's, and `input_sqnr`, what the quantizer takes off the layer's own input, in dB;
    `weight_sqnr` is that of `weight_noise`.
    """
    rows: list[Figures] = []
    both = found, reference
    for one, taken in zip(projections, weight_noise, strict=True):
        figures: Figures = {}
        for loss in found.losses:
            weight = [s.weight_gradients[loss][one.path][one.rows] for s in both]
            output = [s.output_gradients[loss][one.path][..., one.rows] for s in both]
            for kind, pair in (("weight", weight), ("output", output)):
                told = _gradients(*pair)
                figures |= {f"{loss}.{kind}.{name}": value for name, value in told.items()}
        y, goal = (s.outputs[one.path][..., one.rows].double() for s in both)
        mean, before = float(y.abs().mean()), float(goal.abs().mean())
        noise = float((y - goal).square().sum())
        figures |= {
            "activation": mean,
            "activation_ratio": mean / before if before else None,
            "output_sqnr": decibels(float(goal.square().sum()), noise),
            "input_sqnr": decibels(*found.input_energy.get(one.path, (0.0, 0.0))),
            "weight_sqnr": taken,
        }
        rows.append({name: _short(value) for name, value in figures.items()})
    return rows


@torch.no_grad()
def weight_sqnr(layer: AdaptedLinear, rows: slice) -> float | None:
    """Signal to quantization noise of some rows of the merged weight, in dB; None without noise."""
    weight, quantizer = layer.effective_weight(), layer.quantizer
    if quantizer is None:
        return None
    kept = quantize_weight(weight, quantizer.scale, quantizer.w_bits)[rows]
    own = weight[rows].double()
    return decibels(float(own.square().sum()), float((kept.double() - own).square().sum()))


def decibels(signal: float, noise: float) -> float | None:
    """10 log10(signal / noise) of two sums of squares; None where either is zero."""
    return 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None


def _gradients(own: torch.Tensor, other: torch.Tensor) -> Figures:
    own, other = own.double(), other.double()
    square, before = float(own.square().sum()), float(other.square().sum())
    # one root of the product: of equal gradients the cosine is 1 to the last digit
    both = math.sqrt(square * before)
    away = float((own - other).square().sum())
    return {
        "norm": math.sqrt(square),
        "ratio": math.sqrt(square / before) if before else None,
        "cosine": float((own * other).sum()) / both if both else None,
        "error": math.sqrt(away / before) if before else None,
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")
