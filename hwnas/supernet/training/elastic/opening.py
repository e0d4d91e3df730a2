"""What happens when a bit-width opens: adapters inherit, scales are fitted anew."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hwnas.quant.bits import ATTENTION_BITS
from hwnas.supernet.range_calibration import calibrate_ranges
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.scale_table import ScaleTable
from hwnas.supernet.training.elastic.phases import Phase
from hwnas.workload.sam_geometry import SamGeometry
from hwnas.workload.sam_plan import EncoderPlan

__all__ = ["open_bits"]


def open_bits(
    supernet: SamSupernet,
    phase: Phase,
    before: Sequence[int],
    images: Sequence[torch.Tensor],
    *,
    seed: int,
) -> None:
    """Prepare the bit-widths that a phase opens, from high to low; `before` were open already.

    Adapters of a new bit-width b start from those of the next higher open one, where both have a
    path (`AdapterBank.inherit`). Its weight scales are fitted to the merged weight, its input
    ranges to what flows through the largest network at the next higher open bit-width, or in
    floating point if b is the first: least squared error (`calibrate_ranges`) on `images`,
    normalized inputs (3, R, R).
    """
    known = sorted(before)
    for bits in sorted(phase.opens, reverse=True):
        higher = [b for b in known if b > bits]
        source = min(higher) if higher else None
        if source is not None and supernet.encoder.adapters is not None:
            supernet.encoder.adapters.inherit(bits, source)
        encoder = supernet.encoder
        encoder.forget()
        found = _fitted(supernet, bits, source, images, seed)
        encoder.scales = ScaleTable(
            {**encoder.scales.tensors(), **found.tensors()},
            **{**encoder.scales.options, "relative": True},
        )
        encoder.forget()
        known.append(bits)


def _fitted(
    supernet: SamSupernet, bits: int, source: int | None, images: Sequence[torch.Tensor], seed: int
) -> ScaleTable:
    geometry, first = supernet.geometry, source is None
    return calibrate_ranges(
        supernet.encoder,
        images,
        rng=torch.Generator().manual_seed(seed),
        bits=(bits,),
        attn_bits=_attention(bits, first),
        edges=first,
        plan_at=None if source is None else lambda side: _uniform(geometry, side, source),
    )


def _attention(bits: int, first: bool) -> tuple[int, ...]:
    """Bit-widths of attention that become reachable; the first phase needs the nearest one."""
    if first:
        return tuple(b for b in ATTENTION_BITS if b >= bits) or (max(ATTENTION_BITS),)
    return tuple(b for b in ATTENTION_BITS if b == bits)


def _uniform(geometry: SamGeometry, side: int, bits: int) -> EncoderPlan:
    attention = min(ATTENTION_BITS, key=lambda b: (abs(b - bits), -b))
    return EncoderPlan.uniform(
        geometry, resolution=side, w_bits=bits, a_bits=bits, attn_bits=attention
    )
