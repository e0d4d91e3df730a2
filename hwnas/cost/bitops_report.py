"""The headline figures of one arch: MACs in both conventions, BitOPs, and what they save."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from hwnas.cost.lowering import lower
from hwnas.cost.prompts import decoder_runs

if TYPE_CHECKING:
    from hwnas.space import Arch, SearchSpace

__all__ = ["BitopsReport", "Reductions", "bitops_report"]


@dataclass(frozen=True, slots=True)
class Reductions:
    """Share of BitOPs saved against the largest arch of the space in three precisions.

    "About 95 % fewer" means little without its baseline: plain W8A8 saves 93.75 % against fp32
    and 75 % against fp16.
    """

    fp32: float
    fp16: float
    w8a8: float

    @classmethod
    def of(cls, bitops: int, largest_macs: int) -> Self:
        """Compare with a network of `largest_macs` that runs in one precision throughout."""
        return cls(*(1 - bitops / (largest_macs * bits * bits) for bits in (32, 16, 8)))


@dataclass(frozen=True, slots=True)
class BitopsReport:
    """Exact counts of one arch; `macs` are the encoder's, `element_ops` the system's.

    `macs_without_attention` leaves out the products inside attention, as some published counts do.
    """

    arch_id: str
    prompts: int
    macs: int
    macs_without_attention: int
    element_ops: int
    encoder_bitops: int
    system_bitops: int
    encoder_reductions: Reductions
    system_reductions: Reductions


def bitops_report(space: SearchSpace, arch: Arch, *, prompts: int = 1) -> BitopsReport:
    """Count one arch, and compare it with the space's largest.

    The system is the encoder once and the decoder `prompts` times; the baselines run both in the
    baseline's precision.

    Raises:
        SpaceError: the space cannot lower its archs.
        CostError: `prompts` is not a whole number from 1.
    """
    times = decoder_runs("system", prompts, by="bitops_report")
    table, largest = lower(space, arch).table(), lower(space, space.largest()).table()
    encoder, system = (int((table.bit_operations() * table.runs(n)).sum()) for n in (0, times))
    macs = table.macs * table.runs(0)
    return BitopsReport(
        arch_id=arch.id,
        prompts=prompts,
        macs=int(macs.sum()),
        macs_without_attention=int(macs[~table.is_kind("matmul")].sum()),
        element_ops=int((table.element_ops * table.runs(times)).sum()),
        encoder_bitops=encoder,
        system_bitops=system,
        encoder_reductions=Reductions.of(encoder, int((largest.macs * largest.runs(0)).sum())),
        system_reductions=Reductions.of(system, int((largest.macs * largest.runs(times)).sum())),
    )
