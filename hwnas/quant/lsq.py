"""Fake quantizers with learned scales: LSQ for weights, LSQ+ for activations.

Each one is a custom autograd function that keeps its inputs by reference and recomputes codes and
masks in backward, so that a training step stores no copy of the weight.

Sources: Esser et al., "Learned Step Size Quantization" (2020); Bhalgat et al., "LSQ+" (2020);
the centered 2-bit grid from Jin et al., "AdaBits" (2020). What they call step size is `scale`
here; the learned offset of LSQ+ is a real number, not an integer zero point. The arithmetic is
float32 even where the input is bfloat16 (under autocast); so is the result.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from hwnas.quant.bits import signed_codes, unsigned_codes

__all__ = [
    "affine",
    "affine_gradients",
    "gradient_scale",
    "positive",
    "quantize_activation",
    "quantize_signed",
    "quantize_unsigned",
    "quantize_weight",
    "symmetric",
    "symmetric_gradients",
    "wide",
]

SMALLEST_SCALE = 1e-8


def positive(scale: torch.Tensor) -> torch.Tensor:
    """The scale that is used: max(|s|, 1e-8), so that no update can make it zero or negative."""
    return scale.abs().clamp_min(SMALLEST_SCALE)


def quantize_weight(
    weight: torch.Tensor, scale: torch.Tensor, bits: int, *, centered: bool = False
) -> torch.Tensor:
    """Fake-quantize a weight (O, ...) with one scale per output channel (O,), or one for all (1,).

    v = w / s; w^ = s * round(clamp(v, -2^(b-1), 2^(b-1) - 1)). `centered` (2 bits only) uses
    w^ = s * (floor(clamp(v, -2, 2)) + 0.5) with levels +-0.5 s and +-1.5 s.
    Gradients: dw^/dw = 1 inside the range, else 0; dw^/ds = q - v inside, the clipped code
    outside, times 1 / sqrt(N * Qp), N elements per scale. Source: LSQ equations 1 to 5.
    """
    lowest, highest = signed_codes(bits)
    if centered and bits != 2:
        raise ValueError(f"the centered grid exists at 2 bits, not at {bits}")
    shape = (-1,) + (1,) * (weight.dim() - 1)
    factor = gradient_scale(weight.numel() // scale.numel(), highest)
    step = positive(scale).view(shape)
    return _apply(_Symmetric, weight, step, lowest, highest, factor, centered)


def quantize_signed(
    x: torch.Tensor, scale: torch.Tensor, bits: int, *, elements: int
) -> torch.Tensor:
    """Fake-quantize queries, keys or values: one signed symmetric grid, scale of shape ().

    `elements` is the number of elements of one image, the N of the gradient scale.
    """
    lowest, highest = signed_codes(bits)
    factor = gradient_scale(elements, highest)
    return _apply(_Symmetric, x, positive(scale), lowest, highest, factor, False)


def quantize_unsigned(
    x: torch.Tensor, scale: torch.Tensor, bits: int, *, elements: int
) -> torch.Tensor:
    """Fake-quantize the softmax output: codes 0 to 2^b - 1, no offset, scale of shape ()."""
    lowest, highest = unsigned_codes(bits)
    factor = gradient_scale(elements, highest)
    return _apply(_Symmetric, x, positive(scale), lowest, highest, factor, False)


def quantize_activation(
    x: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, bits: int, *, elements: int
) -> torch.Tensor:
    """Fake-quantize an activation with scale and real offset, both of shape ().

    v = (x - beta) / s; x^ = s * round(clamp(v, 0, Q)) + beta, Q = 2^b - 1.
    Gradients: dx^/dx = 1 inside, else 0; dx^/ds = round(v) - v inside, 0 below, Q above;
    dx^/dbeta = 0 inside, 1 outside; the last two times 1 / sqrt(N * Q), N = `elements` of one
    image. Source: LSQ+ equations 2 to 4.
    """
    _, highest = unsigned_codes(bits)
    factor = gradient_scale(elements, highest)
    return _apply(_Affine, x, positive(scale), offset, highest, factor)


def gradient_scale(elements: int, highest: int) -> float:
    """LSQ's 1 / sqrt(N * Q), which makes the step size of a scale comparable to a weight's."""
    return 1.0 / math.sqrt(elements * highest)


def symmetric(
    x: torch.Tensor, scale: torch.Tensor, lowest: int, highest: int, *, centered: bool = False
) -> torch.Tensor:
    """S * codes(x / s) in float32; the scale broadcasts against x. Not differentiated."""
    return _codes(wide(x) / scale, lowest, highest, centered).mul_(scale)


def symmetric_gradients(
    x: torch.Tensor,
    scale: torch.Tensor,
    grad: torch.Tensor,
    codes: tuple[int, int],
    factor: float,
    *,
    centered: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients for x and scale of `symmetric`, given that for its result."""
    lowest, highest = codes
    v = wide(x) / scale
    # The centered grid covers the half-open code cells up to highest + 1.
    inside = (v >= lowest) & (v <= highest + int(centered))
    slope = _codes(v, lowest, highest, centered).sub_(v * inside)
    grad_scale = (slope.mul_(grad) * factor).sum_to_size(scale.shape)
    return grad * inside, grad_scale


def affine(
    x: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, highest: int
) -> torch.Tensor:
    """S * round(clamp((x - beta) / s, 0, Q)) + beta in float32, with scalars s and beta."""
    v = (wide(x) - offset) / scale
    return _codes(v, 0, highest, False).mul_(scale).add_(offset)


def affine_gradients(
    x: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    grad: torch.Tensor,
    highest: int,
    factor: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients for x, scale and offset of `affine`, given that for its result."""
    v = (wide(x) - offset) / scale
    inside = (v >= 0) & (v <= highest)
    slope = _codes(v, 0, highest, False).sub_(v * inside)
    grad_scale = (slope.mul_(grad)).sum().mul(factor).view_as(scale)
    grad_offset = (grad * ~inside).sum().mul(factor).view_as(offset)
    return grad * inside, grad_scale, grad_offset


def wide(x: torch.Tensor) -> torch.Tensor:
    """The tensor in float32, or as it is where it has at least as many digits."""
    return x.float() if x.dtype.itemsize < 4 else x


def _apply(function: type[torch.autograd.Function], *args: Any) -> torch.Tensor:
    result: torch.Tensor = function.apply(*args)  # type: ignore[no-untyped-call]
    return result


def _codes(v: torch.Tensor, lowest: int, highest: int, centered: bool) -> torch.Tensor:
    if not centered:
        return v.clamp(lowest, highest).round_()
    return v.floor().clamp_(lowest, highest).add_(0.5)


class _Symmetric(torch.autograd.Function):
    """`symmetric` with its gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        scale: torch.Tensor,
        lowest: int,
        highest: int,
        factor: float,
        centered: bool,
    ) -> torch.Tensor:
        ctx.save_for_backward(x, scale)
        ctx.grid = (lowest, highest), factor, centered
        return symmetric(x, scale, lowest, highest, centered=centered)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, scale = ctx.saved_tensors
        codes, factor, centered = ctx.grid
        grad_x, grad_scale = symmetric_gradients(x, scale, grad, codes, factor, centered=centered)
        return grad_x.to(x.dtype), grad_scale, None, None, None, None


class _Affine(torch.autograd.Function):
    """`affine` with its gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        scale: torch.Tensor,
        offset: torch.Tensor,
        highest: int,
        factor: float,
    ) -> torch.Tensor:
        ctx.save_for_backward(x, scale, offset)
        ctx.grid = highest, factor
        return affine(x, scale, offset, highest)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, scale, offset = ctx.saved_tensors
        grad_x, grad_scale, grad_offset = affine_gradients(x, scale, offset, grad, *ctx.grid)
        return grad_x.to(x.dtype), grad_scale, grad_offset, None, None
