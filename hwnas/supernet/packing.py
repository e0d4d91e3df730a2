"""Weights as 8-bit integers with one scale per output channel: the form of the shipped files.

A large matrix or kernel `key` becomes `key::int8` and `key::scale` (float32, one per output
channel, symmetric, -127 to 127). Everything small stays float16, or float32 where float16 would
overflow. Unpacking gives float32.
"""

from __future__ import annotations

import torch

__all__ = ["half", "pack", "unpack"]

_INT8, _SCALE = "::int8", "::scale"
_SMALL = 4096  # elements; below this the saving is not worth the rounding
_FLOAT16_MAX = torch.finfo(torch.float16).max


def pack(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Pack float tensors; the output channel is dimension 0, or 1 of a transposed convolution.

    Position tables, and whatever has fewer than two dimensions, are never rounded to 8 bits.
    """
    packed: dict[str, torch.Tensor] = {}
    for key, value in weights.items():
        if not value.is_floating_point():
            packed[key] = value.contiguous()
        elif _is_large(key, value):
            channel = 1 if _is_transposed(key, value) else 0
            packed[key + _INT8], packed[key + _SCALE] = _quantize(value.float(), channel)
        else:
            packed[key] = half(value)
    return packed


def half(value: torch.Tensor) -> torch.Tensor:
    """A tensor in float16, or float32 where float16 would overflow; integers as they are."""
    if not value.is_floating_point():
        return value.contiguous()
    fits = value.abs().max() < _FLOAT16_MAX if value.numel() else True
    return value.to(torch.float16 if fits else torch.float32).contiguous()


def unpack(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Undo `pack`; tensors that are not packed and not float16 come back as they are.

    Raises ValueError where a scale is missing.
    """
    weights: dict[str, torch.Tensor] = {}
    for key, value in tensors.items():
        if key.endswith(_SCALE):
            continue
        if key.endswith(_INT8):
            name = key.removesuffix(_INT8)
            if name + _SCALE not in tensors:
                raise ValueError(f"{name}: packed without its scale")
            weights[name] = value.float() * tensors[name + _SCALE]
        else:
            weights[key] = value.float() if value.dtype == torch.float16 else value
    return weights


def _quantize(value: torch.Tensor, channel: int) -> tuple[torch.Tensor, torch.Tensor]:
    others = [d for d in range(value.ndim) if d != channel]
    scale = value.abs().amax(dim=others, keepdim=True) / 127
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (value / scale).round().to(torch.int8).contiguous(), scale.contiguous()


def _is_large(key: str, value: torch.Tensor) -> bool:
    return value.ndim >= 2 and value.numel() >= _SMALL and not key.endswith("pos_embed")


def _is_transposed(key: str, value: torch.Tensor) -> bool:
    # The only transposed convolutions of SAM: (in, out, kh, kw).
    return value.ndim == 4 and "output_upscaling" in key
