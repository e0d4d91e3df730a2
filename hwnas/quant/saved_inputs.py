"""The input of a trainable layer as it is kept for backward.

Gradients of a learned range need the input itself (LSQ+: round(v) - v), kept once, by reference.
Where the range is not trained, the codes say enough: 8 bits an element, and one that says whether
it was clipped.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from hwnas.quant.bits import unsigned_codes
from hwnas.quant.lsq import affine, affine_gradients, gradient_scale, wide

__all__ = ["CodedInput", "ExactInput", "InputGradients"]

InputGradients = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]
"""Gradients for x, scale and offset."""


@dataclass(frozen=True)
class ExactInput:
    """An input x (..., I), with scale and offset of shape () where it is quantized."""

    x: torch.Tensor
    scale: torch.Tensor | None
    offset: torch.Tensor | None
    bits: int
    elements: int

    def rounded(self) -> torch.Tensor:
        """What the product sees."""
        if self.scale is None or self.offset is None:
            return self.x
        return affine(self.x, self.scale, self.offset, unsigned_codes(self.bits)[1])

    def gradients(self, grad: torch.Tensor) -> InputGradients:
        """Gradients of the quantizer, given that for `rounded`."""
        grad = grad.view(self.x.shape)
        if self.scale is None or self.offset is None:
            return grad, None, None
        highest = unsigned_codes(self.bits)[1]
        factor = gradient_scale(self.elements, highest)
        return affine_gradients(self.x, self.scale, self.offset, grad, highest, factor)


@dataclass(frozen=True)
class CodedInput:
    """A quantized input as codes (..., I) uint8 and, eight a byte, whether each was clipped."""

    codes: torch.Tensor
    clipped: torch.Tensor
    scale: torch.Tensor
    offset: torch.Tensor

    @classmethod
    def of(
        cls, x: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, bits: int
    ) -> CodedInput:
        """From the input itself."""
        highest = unsigned_codes(bits)[1]
        v = (wide(x) - offset) / scale
        clipped = _pack((v < 0) | (v > highest))
        return cls(v.clamp_(0, highest).round_().to(torch.uint8), clipped, scale, offset)

    def rounded(self) -> torch.Tensor:
        """What the product sees; equal to `affine` of the input, bit for bit."""
        return self.codes.to(self.scale.dtype).mul_(self.scale).add_(self.offset)

    def gradients(self, grad: torch.Tensor) -> InputGradients:
        """The gradient for x, given that for `rounded`; the range has none."""
        inside = ~_unpack(self.clipped, self.codes.shape)
        return grad.view(self.codes.shape) * inside, None, None


def _pack(flags: torch.Tensor) -> torch.Tensor:
    """Booleans of any shape as bytes, eight a byte."""
    flat = functional.pad(flags.flatten(), (0, -flags.numel() % 8)).view(-1, 8)
    return (flat * _weights(flags.device)).sum(dim=1, dtype=torch.uint8)


def _unpack(packed: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    bits = (packed[:, None] & _weights(packed.device)) != 0
    return bits.flatten()[: shape.numel()].view(shape)


def _weights(device: torch.device) -> torch.Tensor:
    return torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=device)
