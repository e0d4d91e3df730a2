"""Bit-widths and the integer codes that each one has."""

from __future__ import annotations

from hwnas.errors import ConfigError

__all__ = ["ATTENTION_BITS", "BITS", "EDGE_BITS", "FLOAT_BITS", "require_bits", "signed_codes"]

FLOAT_BITS = 32  # "not quantized", in plans and genes alike
BITS = (2, 3, 4, 6, 8)  # weights and activations of linear layers
ATTENTION_BITS = (4, 8)  # queries, keys, values and softmax output
EDGE_BITS = 8  # patch embedding, neck and relative-position tables


def require_bits(bits: int) -> int:
    """Return `bits` if a quantizer exists for it; raise `ConfigError` otherwise."""
    if bits not in BITS:
        raise ConfigError(
            f"{bits} bits: quantizers exist for {', '.join(map(str, BITS))}; "
            f"{FLOAT_BITS} leaves a tensor in floating point and never reaches a quantizer"
        )
    return bits


def signed_codes(bits: int) -> tuple[int, int]:
    """Lowest and highest code of a signed grid: (-2^(b-1), 2^(b-1) - 1)."""
    half = 1 << (require_bits(bits) - 1)
    return -half, half - 1


def unsigned_codes(bits: int) -> tuple[int, int]:
    """Lowest and highest code of an unsigned grid: (0, 2^b - 1)."""
    return 0, (1 << require_bits(bits)) - 1
