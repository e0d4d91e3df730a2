"""Weights as 8-bit integers with one scale per output channel: the form of the shipped files.

A large matrix or kernel `key` becomes `key::int8` and `key::scale` (float32, one per output
channel, symmetric, -127 to 127). Everything small stays float16, or float32 where float16 would
overflow. Unpacking gives float32.
"""

from __future__ import annotations

import torch

__all__ = ["as_int8", "half", "pack", "round_mantissa", "unpack"]

_INT8, _SCALE = "::int8", "::scale"
_SMALL = 4096  # elements; below this the saving is not worth the rounding
_DROPPED = 13  # of the 23 bits of a float32's mantissa
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
            packed |= as_int8(key, value, channel=channel)
        else:
            packed[key] = half(value)
    return packed


def as_int8(key: str, value: torch.Tensor, *, channel: int) -> dict[str, torch.Tensor]:
    """One tensor in the packed form, with a scale for each index of dimension `channel`."""
    codes, scale = _quantize(value.float(), channel)
    return {key + _INT8: codes, key + _SCALE: scale}


def round_mantissa(value: torch.Tensor) -> torch.Tensor:
    """A float32 tensor rounded to 10 bits of mantissa, by at most 2^-11 of each value.

    It is float16 where that holds the very same numbers, else it stays float32, whose low bits
    are zero then, and gzip removes them: float16 has no range, below 6e-5 it loses bits and
    below 3e-8 it is zero, which scales of 8 bits come near to and no quantizer divides by. Other
    types, and what is not normal (zero, tiny, infinite), come back as they are.
    """
    if value.dtype != torch.float32:
        return value
    codes = value.contiguous().view(torch.int32)
    rounded = ((codes + (1 << (_DROPPED - 1))) & -(1 << _DROPPED)).view(torch.float32)
    exact = (rounded - value).abs() <= value.abs() * 2.0**-11
    kept = torch.where(exact & rounded.isfinite(), rounded, value)
    short = kept.to(torch.float16)
    return short if torch.equal(short.float(), kept) else kept


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
