"""The trainable linear layer: merge, quantize and multiply as one differentiable function.

Plain autograd keeps several copies of the merged weight for each layer, which is as much memory
as low-rank adapters are meant to save. This function keeps references to what the weight is
merged from, and merges again in backward. The gradient of the whole weight is still computed, so
adapters save memory here, not time.

Fake quantization is float32 even under autocast; the matrix products run in autocast's type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from hwnas.quant.bits import signed_codes
from hwnas.quant.lsq import gradient_scale, positive, symmetric, symmetric_gradients, wide
from hwnas.quant.saved_inputs import CodedInput, ExactInput

__all__ = ["MergedWeight", "RangeOf", "TrainableLinear", "range_of"]

RangeOf = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Scale and offset of an input, read off the input itself (`BatchRange`)."""


@dataclass(frozen=True)
class MergedWeight:
    """A weight that is put together anew in forward and in backward, and then quantized.

    `merge` returns the active part (O, I) before the quantizer; `sources` are all tensors that it
    reads and that are to have a gradient. `scale` (O,), or (1,) for the whole tensor, is None in
    floating point (`bits` 32). `centered` chooses the centered grid of 2 bits.
    """

    merge: Callable[[], torch.Tensor]
    sources: tuple[torch.Tensor, ...]
    scale: torch.Tensor | None
    bits: int
    centered: bool = False


@dataclass(frozen=True)
class TrainableLinear:
    """Q(merged weight) times Q(x) plus bias, for x (..., I).

    `input_range` holds scale and offset (2,) of x, or computes them from x; None leaves x in
    floating point. `elements` is the size of x for one image, the N of LSQ's gradient scale.
    """

    weight: MergedWeight
    bias: torch.Tensor
    input_range: torch.Tensor | RangeOf | None
    a_bits: int
    elements: int

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        weight, scale, offset = self.weight, None, None
        if self.input_range is not None:
            scale, offset = range_of(self.input_range, x)
        step = None if weight.scale is None else positive(weight.scale)[:, None]
        y: torch.Tensor = _Product.apply(  # type: ignore[no-untyped-call]
            x, self.bias, scale, offset, step, self, *weight.sources
        )
        return y


def range_of(
    input_range: torch.Tensor | RangeOf, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale, positive, and offset of an input x."""
    scale, offset = input_range if isinstance(input_range, torch.Tensor) else input_range(x)
    return positive(scale), offset


class _Product(torch.autograd.Function):
    """Gradients are those of LSQ and LSQ+ (`lsq.py`), then those of the merge."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        bias: torch.Tensor,
        scale: torch.Tensor | None,
        offset: torch.Tensor | None,
        step: torch.Tensor | None,
        layer: TrainableLinear,
        *sources: torch.Tensor,
    ) -> torch.Tensor:
        device = x.device.type
        ctx.product = x.dtype
        if torch.is_autocast_enabled(device):
            ctx.product = torch.get_autocast_dtype(device)
        trained = ctx.needs_input_grad[2] or ctx.needs_input_grad[3]
        with torch.autocast(device, enabled=False):
            kept: ExactInput | CodedInput
            tensors: tuple[torch.Tensor, torch.Tensor | None] = x, None
            if scale is None or offset is None or trained:
                kept = ExactInput(x, scale, offset, layer.a_bits, layer.elements)
            else:
                kept = CodedInput.of(x, scale, offset, layer.a_bits)
                tensors = kept.codes, kept.clipped
            ctx.coded = tensors[1] is not None
            weight = _quantized(layer.weight, layer.weight.merge(), step)
            y = functional.linear(*(t.to(ctx.product) for t in (kept.rounded(), weight, bias)))
        ctx.save_for_backward(*tensors, scale, offset, step, *sources)
        ctx.layer, ctx.dtypes = layer, (x.dtype, bias.dtype)
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        with torch.autocast(grad.device.type, enabled=False):
            return _Product._backward(ctx, grad)

    @staticmethod
    def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        first, second, scale, offset, step, *sources = ctx.saved_tensors
        layer: TrainableLinear = ctx.layer
        kept: ExactInput | CodedInput
        if ctx.coded:
            kept = CodedInput(first, second, scale, offset)
        else:
            kept = ExactInput(first, scale, offset, layer.a_bits, layer.elements)
        needs, needs_sources = ctx.needs_input_grad[:5], ctx.needs_input_grad[6:]
        grads: list[torch.Tensor | None] = [None] * 6
        grad_sources: tuple[torch.Tensor | None, ...] = (None,) * len(sources)
        flat = grad.flatten(0, -2)
        if needs[1]:
            grads[1] = wide(flat).sum(dim=0).to(ctx.dtypes[1])
        with torch.enable_grad():
            merged = layer.weight.merge()
        flat = flat.to(ctx.product)
        if needs[0] or needs[2] or needs[3]:
            weight = _quantized(layer.weight, merged.detach(), step)
            grad_x, grads[2], grads[3] = kept.gradients(wide(flat @ weight.to(ctx.product)))
            grads[0] = grad_x.to(ctx.dtypes[0])
        if needs[4] or any(needs_sources):
            rounded = kept.rounded().flatten(0, -2).to(ctx.product)
            grad_weight = wide(flat.t() @ rounded)
            if step is not None:
                grad_weight, grads[4] = _step_gradients(
                    layer.weight, merged.detach(), step, grad_weight
                )
            grad_sources = _source_gradients(merged, sources, needs_sources, grad_weight)
        return *grads, *grad_sources


def _quantized(
    weight: MergedWeight, merged: torch.Tensor, step: torch.Tensor | None
) -> torch.Tensor:
    if step is None:
        return merged
    return symmetric(merged, step, *signed_codes(weight.bits), centered=weight.centered)


def _step_gradients(
    weight: MergedWeight, merged: torch.Tensor, step: torch.Tensor, grad: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients for the merged weight and for the scale, given that for the quantized weight."""
    codes = signed_codes(weight.bits)
    factor = gradient_scale(merged.numel() // step.numel(), codes[1])
    return symmetric_gradients(merged, step, grad, codes, factor, centered=weight.centered)


def _source_gradients(
    merged: torch.Tensor,
    sources: list[torch.Tensor],
    needed: tuple[bool, ...],
    grad: torch.Tensor,
) -> tuple[torch.Tensor | None, ...]:
    wanted = [source for source, needs in zip(sources, needed, strict=True) if needs]
    if not wanted or not merged.requires_grad:
        return (None,) * len(sources)
    found = iter(torch.autograd.grad(merged, wanted, grad.to(merged.dtype), allow_unused=True))
    return tuple(next(found) if needs else None for needs in needed)
